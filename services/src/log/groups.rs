//! Who of a group reads which partition.
//!
//! A member holds a lease that it renews; partition *i* belongs to the *i*-th living member, in the
//! order of joining. A member that finds a partition which should be another's gives it back
//! between two batches, and the other takes it at its next renewal, so that nobody is
//! interrupted. A killed member's lease runs out, and then its partitions are free.
//!
//! Leases are told by the machine's wall clock, which all members share. If it jumps, partitions
//! move, or move late; nothing is handled twice for that (see the parent module).

use crate::sqlite::{self, Durability, int, unsigned};
use rusqlite::{Connection, params};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a member that says nothing keeps its partitions.
const LEASE: Duration = Duration::from_millis(1500);
/// How often a member says something; also how soon partitions move after somebody came or left.
const RENEW: Duration = Duration::from_millis(400);

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS members (
        grp TEXT NOT NULL,
        topic TEXT NOT NULL,
        member TEXT NOT NULL,
        joined INTEGER NOT NULL,
        expires INTEGER NOT NULL,
        PRIMARY KEY (grp, topic, member)
    );
    CREATE TABLE IF NOT EXISTS partitions (
        grp TEXT NOT NULL,
        topic TEXT NOT NULL,
        partition INTEGER NOT NULL,
        owner TEXT,
        committed INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (grp, topic, partition)
    );";

/// The file in which the groups of all services are.
pub(super) struct Groups {
    connection: Connection,
}

impl Groups {
    pub(super) fn open(folder: &Path) -> anyhow::Result<Groups> {
        Ok(Groups { connection: sqlite::open(&folder.join("groups.db"), Durability::Recent, &[SCHEMA])? })
    }
}

/// One member's part in one group.
pub(super) struct Lease {
    groups: Groups,
    group: String,
    topic: String,
    partitions: u32,
    member: String,
    renewed: Option<Instant>,
}

impl Lease {
    pub(super) fn new(groups: Groups, group: &str, topic: &str, partitions: u32, member: String) -> Lease {
        Lease { groups, group: group.into(), topic: topic.into(), partitions, member, renewed: None }
    }

    pub(super) fn member(&self) -> &str {
        &self.member
    }

    pub(super) fn due(&self) -> bool {
        self.renewed.is_none_or(|at| at.elapsed() >= RENEW)
    }

    /// Renews the lease. Returns the partitions owned from now on, with the offset committed for each.
    pub(super) fn renew(&mut self) -> rusqlite::Result<BTreeMap<u32, u64>> {
        let owned = self.renew_at(now_ms())?;
        self.renewed = Some(Instant::now());
        Ok(owned)
    }

    /// `now` in milliseconds, by the clock that all members share.
    fn renew_at(&mut self, now: u64) -> rusqlite::Result<BTreeMap<u32, u64>> {
        let (group, topic, member) = (&self.group, &self.topic, &self.member);
        let transaction = sqlite::writing(&mut self.groups.connection)?;
        let gone = "DELETE FROM members WHERE grp = ?1 AND topic = ?2 AND expires <= ?3";
        transaction.execute(gone, params![group, topic, int(now)])?;
        let stay = "INSERT INTO members (grp, topic, member, joined, expires) VALUES (?1, ?2, ?3, ?4, ?5)
                    ON CONFLICT DO UPDATE SET expires = excluded.expires";
        let expires = int(now + LEASE.as_millis() as u64);
        transaction.execute(stay, params![group, topic, member, int(now), expires])?;
        let members: Vec<String> = transaction
            .prepare_cached("SELECT member FROM members WHERE grp = ?1 AND topic = ?2 ORDER BY joined, member")?
            .query_map(params![group, topic], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        let mut owned = BTreeMap::new();
        for partition in 0..self.partitions {
            let ours = &members[partition as usize % members.len()] == member;
            let sql = if ours {
                "INSERT INTO partitions (grp, topic, partition, owner) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO UPDATE SET owner = ?4
                 WHERE owner IS NULL OR owner NOT IN (SELECT member FROM members WHERE grp = ?1 AND topic = ?2)"
            } else {
                "UPDATE partitions SET owner = NULL WHERE grp = ?1 AND topic = ?2 AND partition = ?3 AND owner = ?4"
            };
            transaction.prepare_cached(sql)?.execute(params![group, topic, partition, member])?;
        }
        let mine = "SELECT partition, committed FROM partitions WHERE grp = ?1 AND topic = ?2 AND owner = ?3";
        for row in transaction
            .prepare_cached(mine)?
            .query_map(params![group, topic, member], |row| Ok((row.get(0)?, unsigned(row.get(1)?))))?
        {
            let (partition, committed) = row?;
            owned.insert(partition, committed);
        }
        transaction.commit()?;
        Ok(owned)
    }

    /// Offsets only ever rise, so that a member that woke up late cannot take them back.
    pub(super) fn commit(&mut self, offsets: &[(u32, u64)]) -> rusqlite::Result<()> {
        let transaction = sqlite::writing(&mut self.groups.connection)?;
        let sql =
            "UPDATE partitions SET committed = max(committed, ?4) WHERE grp = ?1 AND topic = ?2 AND partition = ?3";
        for (partition, offset) in offsets {
            let row = params![self.group, self.topic, partition, int(*offset)];
            transaction.prepare_cached(sql)?.execute(row)?;
        }
        transaction.commit()
    }

    pub(super) fn leave(mut self) -> rusqlite::Result<()> {
        let whose = params![self.group, self.topic, self.member];
        let transaction = sqlite::writing(&mut self.groups.connection)?;
        transaction.execute("DELETE FROM members WHERE grp = ?1 AND topic = ?2 AND member = ?3", whose)?;
        let free = "UPDATE partitions SET owner = NULL WHERE grp = ?1 AND topic = ?2 AND owner = ?3";
        transaction.execute(free, whose)?;
        transaction.commit()
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(folder: &Path, member: &str) -> Lease {
        Lease::new(Groups::open(folder).unwrap(), "delivery", "mall", 4, member.into())
    }

    fn owned(lease: &mut Lease, now: u64) -> Vec<u32> {
        lease.renew_at(now).unwrap().into_keys().collect()
    }

    #[test]
    fn one_member_owns_all_and_two_share() {
        let folder = tempfile::tempdir().unwrap();
        let (mut a, mut b) = (lease(folder.path(), "a"), lease(folder.path(), "b"));
        assert_eq!(owned(&mut a, 1000), [0, 1, 2, 3]);
        assert_eq!(owned(&mut b, 1001), [] as [u32; 0], "what is in use is not taken away");
        assert_eq!(owned(&mut a, 1400), [0, 2], "given back at the next renewal");
        assert_eq!(owned(&mut b, 1401), [1, 3]);
    }

    #[test]
    fn a_killed_members_partitions_move_when_its_lease_ends() {
        let folder = tempfile::tempdir().unwrap();
        let (mut a, mut b) = (lease(folder.path(), "a"), lease(folder.path(), "b"));
        owned(&mut a, 1000);
        owned(&mut b, 1000);
        owned(&mut a, 1000);
        assert_eq!(owned(&mut b, 1000), [1, 3]);
        assert_eq!(owned(&mut b, 1000 + 1499), [1, 3]);
        assert_eq!(owned(&mut b, 1000 + 1500), [0, 1, 2, 3]);
    }

    #[test]
    fn who_leaves_gives_back_at_once_and_offsets_stay() {
        let folder = tempfile::tempdir().unwrap();
        let (mut a, mut b) = (lease(folder.path(), "a"), lease(folder.path(), "b"));
        owned(&mut a, 1000);
        a.commit(&[(2, 7)]).unwrap();
        a.commit(&[(2, 5)]).unwrap();
        a.leave().unwrap();
        let owned = b.renew_at(1001).unwrap();
        assert_eq!(owned, BTreeMap::from([(0, 0), (1, 0), (2, 7), (3, 0)]));
    }

    #[test]
    fn a_sleeper_that_lost_its_lease_learns_it_when_it_renews() {
        let folder = tempfile::tempdir().unwrap();
        let (mut a, mut b) = (lease(folder.path(), "a"), lease(folder.path(), "b"));
        owned(&mut a, 1000);
        assert_eq!(owned(&mut b, 9000), [0, 1, 2, 3]);
        assert_eq!(owned(&mut a, 9001), [] as [u32; 0]);
    }

    #[test]
    fn groups_do_not_see_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let mut a = lease(folder.path(), "a");
        let mut other = Lease::new(Groups::open(folder.path()).unwrap(), "mypage", "mall", 4, "a".into());
        assert_eq!(owned(&mut a, 1000), owned(&mut other, 1000));
    }
}
