//! The properties of the wire: nothing is lost, nothing is random, nothing panics.

mod generate;
mod refusals;

use super::*;
use proptest::prelude::*;
use proptest::sample::Index;

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn what_was_written_is_read(resource in generate::resource()) {
        let read = decode(&encode(&resource));
        prop_assert_eq!(read, Ok(resource));
    }

    #[test]
    fn equal_resources_are_equal_bytes(resource in generate::resource()) {
        let (one, other) = (encode(&resource), encode(&resource.clone()));
        prop_assert_eq!(version(&one), version(&other));
        prop_assert_eq!(one, other);
    }

    #[test]
    fn damaged_bytes_are_refused_or_mean_something_whole(
        resource in generate::resource(),
        damage in prop::collection::vec((any::<Index>(), any::<u8>()), 1..6),
        cut in any::<Option<Index>>(),
    ) {
        let mut any = encode(&resource);
        for (at, byte) in damage {
            if !any.value.is_empty() {
                let at = at.index(any.value.len());
                any.value[at] = byte;
            }
        }
        if let Some(cut) = cut {
            any.value.truncate(cut.index(any.value.len() + 1));
        }
        if let Ok(read) = decode(&any) {
            prop_assert_eq!(decode(&encode(&read)), Ok(read));
        }
    }

    #[test]
    fn noise_does_not_panic(noise in prop::collection::vec(any::<u8>(), 0..512), kind in 0..Kind::ALL.len()) {
        let _ = decode(&Any { type_url: type_url(Kind::ALL[kind]).into(), value: noise });
    }

    #[test]
    fn a_node_says_who_it_is(node in generate::node()) {
        prop_assert_eq!(node::decode(&node::encode(&node)), Ok(node));
    }
}

#[test]
fn a_version_is_sixteen_hexadecimal_digits_of_the_content() {
    let one = weft_model::Cluster::new("outbound|80||one");
    let mut other = one.clone();
    other.connect_timeout = std::time::Duration::from_secs(1);
    let version_of = |cluster: &weft_model::Cluster| version(&encode(&Resource::Cluster(cluster.clone())));
    assert_eq!(version_of(&one), version_of(&one.clone()));
    assert_ne!(version_of(&one), version_of(&other));
    assert!(version_of(&one).len() == 16 && version_of(&one).bytes().all(|byte| byte.is_ascii_hexdigit()));
}

#[test]
fn metadata_with_several_keys_is_written_in_one_order() {
    let mut cluster = weft_model::Cluster::new("c");
    cluster.service =
        weft_model::cluster::Service { host: "h.svc".into(), name: "h".into(), namespace: "default".into() };
    cluster.origin = weft_model::Origin { place: "a.yaml:1".into(), object: "Service default/h".into() };
    let first = encode(&Resource::Cluster(cluster.clone()));
    for _ in 0..64 {
        assert_eq!(encode(&Resource::Cluster(cluster.clone())), first);
    }
}

#[test]
fn nesting_without_end_is_refused_and_not_followed() {
    // a cluster whose metadata holds a list in a list in a list …
    let field = |tag: u8, body: Vec<u8>| {
        let mut bytes = vec![tag << 3 | 2];
        prost::encode_length_delimiter(body.len(), &mut bytes).unwrap();
        bytes.extend(body);
        bytes
    };
    let mut value = field(3, b"end".to_vec());
    for _ in 0..10_000 {
        value = field(6, field(1, value));
    }
    let entry = |value: Vec<u8>| field(1, [field(1, b"k".to_vec()), field(2, value)].concat());
    let metadata = entry(entry(value));
    let mut bytes = field(1, b"c".to_vec());
    prost::encoding::encode_key(25, prost::encoding::WireType::LengthDelimited, &mut bytes);
    prost::encode_length_delimiter(metadata.len(), &mut bytes).unwrap();
    bytes.extend(metadata);
    let error = decode(&Any { type_url: type_url(Kind::Cluster).into(), value: bytes }).unwrap_err();
    assert!(error.what.contains("recursion limit"), "{error}");
}
