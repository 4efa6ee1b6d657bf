//! `metadata`: who an object is.

use super::fields::{Cursor, Fields};
use super::scalars::{boolean, kind, label, number, object_name, subdomain, text, text_ref, texts};
use crate::{Meta, OwnerReference};

/// An object's name, its namespace as written, and the rest.
#[derive(Default)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) namespace: Option<String>,
    pub(crate) meta: Meta,
}

/// `strict`: the name must be a DNS name, as it is for all kinds that are read.
pub(crate) fn metadata(at: &Cursor<'_>, strict: bool) -> Option<Named> {
    at.fields(|f| {
        if at.report.file.is_live {
            f.skip_all();
        }
        f.skip(&["resourceVersion", "finalizers", "managedFields", "selfLink", "generateName"]);
        f.skip(&["deletionTimestamp", "deletionGracePeriodSeconds", "clusterName"]);
        Named {
            name: f.need("name", |at| if strict { subdomain(at) } else { object_name(at) }),
            namespace: f.opt("namespace", label),
            meta: Meta {
                creation_timestamp: f.opt("creationTimestamp", timestamp),
                generation: f.opt("generation", number(0, i64::MAX)),
                uid: f.opt("uid", text),
                ..labelled(f)
            },
        }
    })
}

/// A pod template's `metadata`: it has no name of its own.
pub(crate) fn template_metadata(at: &Cursor<'_>) -> Option<Meta> {
    at.fields(|f| {
        f.skip(&["name", "namespace", "creationTimestamp", "generateName", "finalizers"]);
        labelled(f)
    })
}

fn labelled(f: &mut Fields<'_>) -> Meta {
    Meta {
        labels: f.opt("labels", texts).unwrap_or_default(),
        annotations: f.opt("annotations", texts).unwrap_or_default(),
        creation_timestamp: None,
        generation: None,
        uid: None,
        owner_references: f.list("ownerReferences", 0..=64, owner),
    }
}

fn owner(at: &Cursor<'_>) -> Option<OwnerReference> {
    at.fields(|f| {
        f.skip(&["apiVersion", "uid", "blockOwnerDeletion"]);
        OwnerReference {
            kind: f.need("kind", kind),
            name: f.need("name", text),
            controller: f.opt("controller", boolean).unwrap_or_default(),
        }
    })
}

/// RFC 3339 in seconds since 1970, fractions dropped.
fn timestamp(at: &Cursor<'_>) -> Option<i64> {
    let written = text_ref(at)?;
    seconds(written).or_else(|| at.error("is not a time", "write one such as 2026-01-31T12:00:00Z, or leave it out"))
}

fn seconds(written: &str) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| written.get(range)?.parse::<i64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let marks = [(4, "-"), (7, "-"), (13, ":"), (16, ":")];
    let shaped = marks.iter().all(|(at, mark)| written.get(*at..at + 1) == Some(mark));
    let in_range = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    let zone = written.get(19..)?.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    let offset = match zone {
        "Z" | "z" => 0,
        zone => {
            let sign = if zone.starts_with('-') { -1 } else { 1 };
            let (hours, minutes) = zone.strip_prefix(['+', '-'])?.split_once(':')?;
            sign * (hours.parse::<u8>().ok()? as i64 * 3600 + minutes.parse::<u8>().ok()? as i64 * 60)
        }
    };
    (shaped && in_range).then(|| days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset)
}

/// Days from 1970-01-01 in the Gregorian calendar (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`).
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn times_are_read_in_every_zone() {
        assert_eq!(seconds("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(seconds("2000-02-29T12:30:15Z"), Some(951_827_415));
        assert_eq!(seconds("2000-02-29T14:30:15.123456+02:00"), Some(951_827_415));
        assert_eq!(seconds("1969-12-31T23:59:59Z"), Some(-1));
        for wrong in ["", "2000", "2000-13-01T00:00:00Z", "2000-01-01 00-00-00Z", "2000-01-01T00:00:00", "ééééééééééé"]
        {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }
}
