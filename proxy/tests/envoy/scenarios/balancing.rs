//! Which host: by turns, by hash, by priority, in panic.

use crate::scenario::{Call, Host, Scenario, get, ok, scenario};
use weft_model::balancer::{Balancer, HashPolicy, HashSource};
use weft_model::endpoint::Health;

pub(crate) fn all() -> Vec<Scenario> {
    let mut all = by_turns();
    all.extend(by_hash());
    all.extend(by_priority());
    all
}

fn by_turns() -> Vec<Scenario> {
    let weighing = |weight: u32| move |host: &mut Host| host.weight = weight;
    vec![
        scenario("balancing: in turn").equal_hosts(3).send_times(9, get()).anonymous().expect("9x 200; hosts 3+3+3"),
        scenario("balancing: in turn by weight")
            .host_with([ok()], weighing(1))
            .host_with([ok()], weighing(3))
            .send_times(8, get())
            .unordered()
            .expect("2x 200@a, 6x 200@b; hosts 2+6"),
    ]
}

/// Hosts differ by address alone, so nobody knows beforehand which one a key means; but both must mean the same.
fn by_hash() -> Vec<Scenario> {
    let key = |key: usize| get().with("x-key", format!("key-{key}"));
    let keys = |scenario: Scenario| (0..16).fold(scenario, |scenario, number| scenario.send(key(number)));
    let header = || HashSource::Header("x-key".into());
    let ring = |name| scenario(name).equal_hosts(4).balancer(Balancer::RING_HASH).hashed_by(header());
    let weighted =
        |name| (1..5).fold(scenario(name), |scenario, weight| scenario.host_with([ok()], |host| host.weight = weight));
    let unwell = |host: &mut Host| host.health = Health::Unhealthy;
    let small = Balancer::RingHash { minimum_size: 7, maximum_size: 64 };
    vec![
        keys(ring("hash: a ring, by a header")),
        keys(ring("hash: a small ring").balancer(small)),
        keys(ring("hash: Maglev, by a header").balancer(Balancer::MAGLEV)),
        keys(ring("hash: a small Maglev table").balancer(Balancer::Maglev { table_size: 11 })),
        keys(weighted("hash: a ring of hosts that weigh 1 to 4").balancer(Balancer::RING_HASH).hashed_by(header())),
        keys(weighted("hash: Maglev with hosts that weigh 1 to 4").balancer(Balancer::MAGLEV).hashed_by(header())),
        keys(ring("hash: a ring without one that is not well").host_with([ok()], unwell)),
        keys(ring("hash: Maglev without one that is not well").balancer(Balancer::MAGLEV).host_with([ok()], unwell)),
        ring("hash: one key means one host").send_times(6, key(1)).anonymous().expect("6x 200; hosts 6+0+0+0"),
        keys(
            scenario("hash: a ring, by a query parameter")
                .equal_hosts(4)
                .balancer(Balancer::RING_HASH)
                .hashed_by(HashSource::QueryParameter("who".into())),
        )
        .send(asking("one"))
        .send(asking("two"))
        .send(asking("three"))
        .send(asking("three"))
        .forward(|forward| forward.hash[0].terminal = true)
        .forward(|forward| forward.hash.push(HashPolicy { source: header(), terminal: false })),
        keys(ring("hash: a ring, by two headers").hashed_by(HashSource::Header("x-other".into())))
            .send(key(1).with("x-other", "2"))
            .send(key(2).with("x-other", "1")),
        scenario("hash: a ring, by the caller's address")
            .equal_hosts(4)
            .balancer(Balancer::RING_HASH)
            .hashed_by(HashSource::SourceIp)
            .send_times(4, get()),
        scenario("hash: a ring, by a cookie")
            .equal_hosts(4)
            .balancer(Balancer::RING_HASH)
            .hashed_by(HashSource::Cookie { name: "who".into(), path: "/".into(), ttl: None })
            .send(get().with("cookie", "a=b; who=one"))
            .send(get().with("cookie", "who=two; who=one"))
            .send(get().with("cookie", "who=three"))
            .send(get().with("cookie", "who=four")),
    ]
}

fn asking(who: &str) -> Call {
    Call { query: format!("&who={who}"), ..get() }
}

fn by_priority() -> Vec<Scenario> {
    let with = |health: Health, priority: u32| move |host: &mut Host| (host.health, host.priority) = (health, priority);
    let (well, unwell) = (Health::Healthy, Health::Unhealthy);
    let members = |name, members: &[(Health, u32)]| {
        let add = |scenario: Scenario, member: &(Health, u32)| scenario.host_with([ok()], with(member.0, member.1));
        members.iter().fold(scenario(name), add)
    };
    let panic_at = |percent: u32| move |cluster: &mut weft_model::Cluster| cluster.balancing.panic_threshold = percent;
    vec![
        members("priority: the first takes all while it is healthy", &[(well, 0), (well, 0), (well, 1)])
            .send_times(4, get())
            .unordered()
            .expect("2x 200@a, 2x 200@b; hosts 2+2+0"),
        members(
            "priority: three of four healthy are enough",
            &[(well, 0), (well, 0), (well, 0), (unwell, 0), (well, 1)],
        )
        .send_times(6, get())
        .unordered()
        .expect("2x 200@a, 2x 200@b, 2x 200@c; hosts 2+2+2+0+0"),
        members("priority: the next takes all when none of the first is healthy", &[(unwell, 0), (well, 1)])
            .send_times(3, get())
            .expect("3x 200@b; hosts 0+3"),
        members("priority: the third, when none before it is healthy", &[(unwell, 0), (unwell, 1), (well, 2)])
            .send_times(3, get())
            .expect("3x 200@c; hosts 0+0+3"),
        members("priority: all of all in panic, when none is healthy at all", &[(unwell, 0), (unwell, 0), (unwell, 1)])
            .send_times(60, get())
            .uncounted()
            .expect("60x 200; hosts some+some+some"),
        members(
            "priority: a part goes on when half of the first is healthy",
            &[(well, 0), (unwell, 0), (well, 1), (well, 2)],
        )
        .send_times(60, get())
        .uncounted()
        .expect("60x 200; hosts some+none+some+none"),
        members(
            "priority: both in panic",
            &[(well, 0), (unwell, 0), (unwell, 0), (unwell, 0), (well, 1), (unwell, 1), (unwell, 1)],
        )
        .send_times(80, get())
        .uncounted()
        .expect("80x 200; hosts some+some+some+some+some+some+some"),
        members(
            "panic: one of four healthy is under the threshold",
            &[(well, 0), (unwell, 0), (unwell, 0), (unwell, 0)],
        )
        .send_times(8, get())
        .anonymous()
        .expect("8x 200; hosts 2+2+2+2"),
        members(
            "panic: two of four healthy are not under the threshold",
            &[(well, 0), (well, 0), (unwell, 0), (unwell, 0)],
        )
        .send_times(4, get())
        .unordered()
        .expect("2x 200@a, 2x 200@b; hosts 2+2+0+0"),
        members("panic: with threshold 0 only the healthy", &[(well, 0), (unwell, 0), (unwell, 0), (unwell, 0)])
            .cluster(panic_at(0))
            .send_times(4, get())
            .expect("4x 200@a; hosts 4+0+0+0"),
        members("panic: with threshold 0 and none healthy", &[(unwell, 0), (unwell, 0)])
            .cluster(panic_at(0))
            .send(get())
            .with_details()
            .expect("503 UH no_healthy_upstream; hosts 0+0"),
        members("panic: traffic may fail instead", &[(unwell, 0), (unwell, 0)])
            .cluster(|cluster| cluster.balancing.fail_traffic_on_panic = true)
            .send(get())
            .expect("503 UH; hosts 0+0"),
        members("health: who is draining gets nothing new", &[(well, 0), (Health::Draining, 0)])
            .cluster(panic_at(0))
            .send_times(3, get())
            .expect("3x 200@a; hosts 3+0"),
    ]
}
