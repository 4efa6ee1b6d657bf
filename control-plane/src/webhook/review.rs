//! The API server's question and our answer: AdmissionReview, version 1.
//!
//! Read as plain JSON, so that no field of the object in it is lost on the way to who looks at it.

use serde_json::{Value, json};

const VERSION: &str = "admission.k8s.io/v1";

/// What is asked.
pub(super) struct Review {
    uid: String,
    pub(super) kind: String,
    pub(super) namespace: String,
    /// `null` at a deletion.
    pub(super) object: Value,
    /// As it was; `null` at a creation.
    pub(super) old: Value,
}

/// What is answered.
#[derive(Default)]
pub(super) struct Answer {
    pub(super) patch: Option<json_patch::Patch>,
    /// Why not, in words; with it the object is refused.
    pub(super) refusal: Option<String>,
    pub(super) warnings: Vec<String>,
}

impl Review {
    /// Errors: what is wrong with the question, for a 400.
    pub(super) fn read(body: &[u8]) -> Result<Review, String> {
        let mut review: Value =
            serde_json::from_slice(body).map_err(|error| format!("the body is not JSON: {error}"))?;
        let said = |name: &str| review.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        if (said("kind").as_str(), said("apiVersion").as_str()) != ("AdmissionReview", VERSION) {
            let (kind, version) = (said("kind"), said("apiVersion"));
            return Err(format!("the body is a {kind:?} of {version:?}, not an AdmissionReview of {VERSION}"));
        }
        let request = review.get_mut("request").map(Value::take).unwrap_or_default();
        let text = |path: &str| request.pointer(path).and_then(Value::as_str).map(str::to_owned);
        let uid = text("/uid").filter(|uid| !uid.is_empty()).ok_or("the review has no request.uid")?;
        let kind = text("/kind/kind").ok_or("the review has no request.kind")?;
        let namespace = text("/namespace").unwrap_or_default();
        let within = |name: &str| request.get(name).cloned().unwrap_or_default();
        let (object, old) = (within("object"), within("oldObject"));
        Ok(Review { uid, kind, namespace, object, old })
    }

    pub(super) fn answered(&self, answer: Answer) -> Value {
        let mut response = json!({ "uid": self.uid, "allowed": answer.refusal.is_none() });
        if let Some(message) = answer.refusal {
            // kubectl prints the message of an Invalid only with details of its own kind
            response["status"] = json!({ "code": 403, "reason": "Forbidden", "message": message });
        }
        if let Some(patch) = answer.patch.filter(|patch| !patch.0.is_empty()) {
            // Base64 of JSON, as the API has it.
            let text = serde_json::to_vec(&patch).expect("a patch is JSON");
            response["patch"] = serde_json::to_value(k8s_openapi::ByteString(text)).expect("bytes are base64");
            response["patchType"] = "JSONPatch".into();
        }
        if !answer.warnings.is_empty() {
            response["warnings"] = answer.warnings.into();
        }
        json!({ "apiVersion": VERSION, "kind": "AdmissionReview", "response": response })
    }
}
