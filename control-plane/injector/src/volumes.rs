//! The sidecar's volumes: a token by which it says who it is, and memory for its last good configuration.

use serde_json::{Value, json};

pub(crate) const STATE_FILE: &str = "/var/lib/weft/state.json";
const STATE_DIRECTORY: &str = "/var/lib/weft";
const TOKEN_DIRECTORY: &str = "/var/run/secrets/weft.dev/token";
const TOKEN_SECONDS: u32 = 43_200;

/// Their names in one pod.
pub(crate) struct Volumes {
    token: String,
    state: String,
}

impl Volumes {
    /// Names that no volume of the pod has.
    pub(crate) fn named_apart_from(of_pod: &[Value]) -> Volumes {
        let is_taken = |name: &str| of_pod.iter().any(|volume| volume["name"] == name);
        let free = |name: &str| {
            let numbered = (2u32..).map(|number| format!("{name}-{number}"));
            std::iter::once(name.to_owned())
                .chain(numbered)
                .find(|name| !is_taken(name))
                .expect("a pod has fewer volumes than there are numbers")
        };
        Volumes { token: free("weft-token"), state: free("weft-state") }
    }

    pub(crate) fn all(&self, more: &[Value]) -> Vec<Value> {
        let token = json!({ "serviceAccountToken": { "audience": "weft-ca", "expirationSeconds": TOKEN_SECONDS, "path": "token" } });
        let ours = [
            json!({ "name": self.token, "projected": { "sources": [token] } }),
            json!({ "name": self.state, "emptyDir": { "medium": "Memory", "sizeLimit": "64Mi" } }),
        ];
        ours.into_iter().chain(more.iter().cloned()).collect()
    }

    pub(crate) fn mounts(&self, more: &[Value]) -> Value {
        let ours = [
            json!({ "name": self.token, "mountPath": TOKEN_DIRECTORY, "readOnly": true }),
            json!({ "name": self.state, "mountPath": STATE_DIRECTORY }),
        ];
        ours.into_iter().chain(more.iter().cloned()).collect()
    }
}
