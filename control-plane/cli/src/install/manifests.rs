//! manifests/weft, as this binary carries it.

use super::documents;
use serde_json::Value;

/// In the order in which they are applied.
const FILES: [(&str, &str); 7] = [
    ("namespace.yaml", include_str!("../../../../manifests/weft/namespace.yaml")),
    ("crds.yaml", include_str!("../../../../manifests/weft/crds.yaml")),
    ("access.yaml", include_str!("../../../../manifests/weft/access.yaml")),
    ("control-plane.yaml", include_str!("../../../../manifests/weft/control-plane.yaml")),
    ("network.yaml", include_str!("../../../../manifests/weft/network.yaml")),
    ("webhooks.yaml", include_str!("../../../../manifests/weft/webhooks.yaml")),
    ("gateway-class.yaml", include_str!("../../../../manifests/weft/gateway-class.yaml")),
];

/// Everything, with this image.
pub(crate) fn objects(image: &str) -> anyhow::Result<Vec<Value>> {
    let mut objects = Vec::new();
    for (name, text) in FILES {
        objects.extend(documents(name, text)?);
    }
    for object in &mut objects {
        set_image(object, image);
    }
    Ok(objects)
}

/// As documents of one file.
pub(crate) fn yaml(objects: &[Value]) -> anyhow::Result<String> {
    let texts: Result<Vec<String>, _> = objects.iter().map(serde_saphyr::to_string).collect();
    Ok(texts?.join("---\n"))
}

fn set_image(object: &mut Value, image: &str) {
    let containers = object.pointer_mut("/spec/template/spec/containers").and_then(Value::as_array_mut);
    for container in containers.into_iter().flatten() {
        container["image"] = image.into();
        // what is started by the control plane is of the same make
        if let Some(args) = container["args"].as_array_mut().filter(|args| args.iter().any(|arg| arg == "--kubernetes"))
        {
            args.push(format!("--image={image}").into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_carried_and_runs_the_image_that_is_asked_for() {
        let objects = objects("somewhere/weft:7").unwrap();
        let kustomization =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../manifests/weft/kustomization.yaml"));
        for (file, _) in FILES {
            assert!(kustomization.as_ref().is_ok_and(|text| text.contains(file)), "{file} is in the kustomization too");
        }
        assert_eq!(objects[0]["kind"], "Namespace", "what everything else is in comes first");
        let text = yaml(&objects).unwrap();
        assert!(text.contains("image: somewhere/weft:7") && text.contains("--image=somewhere/weft:7"), "{text}");
        assert_eq!(text.matches("\n---\n").count() + 1, objects.len());
    }
}
