//! `apps/v1` Deployment: how many copies of which pod. `weft up` runs them as local processes.

use super::{Labels, PodSpec, Selector, pod_spec, selector};
use crate::Place;
use crate::read::{Cursor, Fields, number, template_metadata};

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

pub(crate) fn read_deployment(f: &mut Fields<'_>) -> Option<Deployment> {
    f.must("spec", |at| at.fields(spec))?
}

fn spec(f: &mut Fields<'_>) -> Option<Deployment> {
    f.skip(&["strategy", "minReadySeconds", "revisionHistoryLimit", "paused", "progressDeadlineSeconds"]);
    let replicas = f.opt("replicas", number(0, 100_000)).unwrap_or(1);
    let wanted = f.must("selector", selector);
    let template = f.must("template", pod_template);
    let (selector, template) = (wanted?, template?);
    if !selector.matches(&template.labels) {
        f.wrong("selector", "does not fit the labels of its own template", "write the same labels in both");
    }
    Some(Deployment { replicas, selector, template })
}

fn pod_template(at: &Cursor<'_>) -> Option<PodTemplate> {
    at.fields(|f| {
        let meta = f.opt("metadata", template_metadata).unwrap_or_default();
        PodTemplate {
            place: f.place(),
            labels: meta.labels,
            annotations: meta.annotations,
            spec: f.need("spec", pod_spec),
        }
    })
}
