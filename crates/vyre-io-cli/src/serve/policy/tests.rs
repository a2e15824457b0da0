use super::*;

fn parsed(text: &str) -> Result<PolicyFile, toml::de::Error> {
    toml::from_str(text)
}

#[test]
fn a_policy_says_who_may_open_what_within_which_limits() {
    let policy = parsed(
        r#"
        peers = 8
        peers-per-user = 2
        same-user = false

        [limits]
        queues = 2
        operations-per-second = 1000
        bytes-per-second = "10MiB"

        [[allow]]
        user = "alice"
        limits.buffer-bytes = "1GiB"

        [[allow]]
        group = 100

        [[file]]
        name = "weights"
        path = "/srv/weights.bin"
        rights = "rw"
        range = "0-4GiB"
        users = ["alice", 1000]
        "#,
    );
    let policy = policy.expect("a policy");
    assert_eq!(policy.peers.map(NonZeroU32::get), Some(8));
    assert_eq!(policy.same_user, Some(false));
    assert_eq!(policy.allow.len(), 2);
    assert_eq!(policy.allow[0].user, Some(Name::Text("alice".into())));
    assert_eq!(policy.allow[1].who().expect("a number"), Who::Group(100));
    let limits = policy.limits.over(DEFAULT);
    assert_eq!(limits.bytes_per_second, 10 << 20);
    let more = policy.allow[0].limits.over(limits);
    assert_eq!((more.queues, more.buffer_bytes), (2, 1 << 30));
    let file = &policy.file[0];
    assert_eq!(file.range.0, 0..4 << 30);
    assert_eq!(file.users[1], Name::Number(1000));
}

#[test]
fn an_error_of_a_policy_names_its_line() {
    for (text, line, word) in [
        ("peers = 1\npeer = 2", 2, "peer"),
        ("[limits]\n\nqueue = 1", 3, "queue"),
        ("[limits]\nqueues = 0", 2, "nonzero"),
        ("[limits]\nslots = 5000", 2, "4096"),
        (
            "[[file]]\nname = 'a'\npath = 'b'\nrights = 'x'",
            4,
            "rights",
        ),
        (
            "[[file]]\nname = 'a'\npath = 'b'\nrange = '5-1'",
            4,
            "range",
        ),
        ("[[allow]]\nusers = 'a'", 2, "users"),
        ("[limits]\nbuffer-bytes = 'many'", 2, "buffer-bytes"),
        ("[[file]]\nname = 'a'", 1, "path"),
    ] {
        let error = parsed(text).expect_err(text).to_string();
        let at = format!("line {line}");
        assert!(
            error.contains(&at) && error.contains(word),
            "{text}: {error}"
        );
    }
}

#[test]
fn one_allow_names_one_user_or_one_group() {
    for text in ["[[allow]]", "[[allow]]\nuser = 1\ngroup = 2"] {
        let policy = parsed(text).expect("toml");
        assert!(policy.allow[0].who().is_err(), "{text}");
    }
    let nobody = Name::Text("no-such-user-here".into());
    assert!(matches!(nobody.user(), Err(ServeError::NoUser(_))));
    assert!(matches!(nobody.group(), Err(ServeError::NoGroup(_))));
    let root = Name::Text("root".into());
    assert_eq!(root.user().expect("everywhere"), Who::User(0));
    assert_eq!(root.group().expect("everywhere"), Who::Group(0));
}

fn policy(own: Option<u32>, allowed: Vec<Allowed>) -> Policy {
    Policy {
        peers: 1,
        peers_per_user: 1,
        own,
        limits: DEFAULT,
        allowed,
        files: Vec::new(),
    }
}

#[test]
fn the_first_entry_that_fits_a_peer_counts() {
    let limits = |queues| Limits { queues, ..DEFAULT };
    let policy = policy(
        Some(1000),
        vec![
            Allowed {
                who: Who::User(1001),
                limits: limits(7),
            },
            Allowed {
                who: Who::Group(50),
                limits: limits(8),
            },
        ],
    );
    assert!(policy.asks_for_groups());
    let admitted = |uid, groups: &[u32]| {
        let groups = groups.to_vec();
        let limits = policy.admit(&PeerUser { uid, groups });
        limits.map(|limits| limits.queues)
    };
    assert_eq!(admitted(1001, &[50]), Some(7));
    assert_eq!(admitted(1002, &[49, 50]), Some(8));
    assert_eq!(admitted(1002, &[49]), None);
    assert_eq!(admitted(1000, &[]), Some(DEFAULT.queues));
    assert_eq!(
        admitted(0, &[]),
        Some(0),
        "root may ask for the status alone"
    );
}
