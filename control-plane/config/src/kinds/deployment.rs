//! `apps/v1` Deployment: how many copies of which pod. `weft up` runs them as local processes.

use super::{Labels, PodSpec, Selector};
use crate::Place;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployment {
    /// Default 1.
    pub replicas: u32,
    /// Fits the template's own labels.
    pub selector: Selector,
    pub template: PodTemplate,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodTemplate {
    pub place: Place,
    pub labels: Labels,
    pub annotations: Labels,
    pub spec: PodSpec,
}
