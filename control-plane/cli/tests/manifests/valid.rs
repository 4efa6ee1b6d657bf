//! By Kubernetes' schemas, which know every field.

use crate::{fed, manifests, said};
use std::process::Command;
use weft_testkit::peers::{self, Peer};

#[test]
fn every_document_is_valid_and_says_nothing_unknown() {
    let python = peers::python(&[Peer::KubernetesValidate]);
    for name in ["weft", "cluster", "monitoring"] {
        let mut validate = Command::new(&python);
        validate.args(["-c", include_str!("validate.py")]);
        let output = fed(&mut validate, &manifests(name));
        println!("manifests/{name}: {}", said(&output));
        assert!(output.status.success(), "manifests/{name}: what is wrong is above");
    }
}
