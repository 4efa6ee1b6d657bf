use std::collections::HashSet;
use weft_proxy::telemetry::flags::{Flag, Flags};
use weft_proxy::telemetry::ids::Random;

#[test]
fn request_ids_are_version_4_uuids_and_none_comes_twice() {
    let mut seen = HashSet::new();
    for mut random in [Random::from_os(), Random::from_os(), Random::from_seed([0; 32]), Random::from_seed([7; 32])] {
        for _ in 0..5_000 {
            let id = random.request_id();
            let id = id.to_str().unwrap().to_owned();
            let groups: Vec<usize> = id.split('-').map(str::len).collect();
            assert_eq!(groups, [8, 4, 4, 4, 12], "{id}");
            assert!(id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-')), "{id}");
            assert_eq!(&id[14..15], "4", "{id}");
            assert!("89ab".contains(&id[19..20]), "{id}");
            assert!(seen.insert(id), "twice");
        }
    }
}

#[test]
fn every_digit_of_a_request_id_varies() {
    let mut random = Random::from_seed([1; 32]);
    let mut values = vec![HashSet::new(); 36];
    for _ in 0..2_000 {
        for (digits, digit) in values.iter_mut().zip(random.uuid()) {
            digits.insert(digit);
        }
    }
    for (place, digits) in values.iter().enumerate() {
        let expected = match place {
            8 | 13 | 14 | 18 | 23 => 1,
            19 => 4,
            _ => 16,
        };
        assert_eq!(digits.len(), expected, "place {place}");
    }
}

#[test]
fn a_seed_gives_the_published_sequence() {
    // The reference implementation's first numbers from the state 1, 2, 3, 4.
    let mut seed = [0; 32];
    for (word, bytes) in (1u64..).zip(seed.chunks_exact_mut(8)) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    let mut random = Random::from_seed(seed);
    let first: Vec<u64> = (0..4).map(|_| random.bits()).collect();
    assert_eq!(first, [41943041, 58720359, 3588806011781223, 3591011842654386]);
}

#[test]
fn flags_are_written_as_envoy_writes_them() {
    assert_eq!(Flags::NONE.to_string(), "-");
    assert_eq!(Flags::from(Flag::NoRoute).to_string(), "NR");
    let mut flags = Flags::from(Flag::RetryLimitExceeded) | Flag::UpstreamConnectFailure;
    assert_eq!(flags.to_string(), "UF,URX");
    flags |= Flag::NoRoute;
    flags.insert(Flag::NoRoute);
    assert!(flags.contains(Flag::NoRoute) && !flags.contains(Flag::NoCluster));
    assert_eq!(flags.iter().count(), 3);
}

#[test]
fn every_flag_has_its_own_letters_and_its_own_place() {
    let letters: HashSet<&str> = Flag::ALL.iter().map(|flag| flag.short()).collect();
    assert_eq!(letters.len(), 30);
    for flag in Flag::ALL {
        assert_eq!(Flags::from(flag).iter().collect::<Vec<_>>(), [flag]);
    }
}
