//! Drives the `zookeeper-client` crate against a cluster: `client HOSTS SCENARIO`.
//!
//! A scenario ends the program with 0 and `done`, or panics. It prints `crash leader`, `crash 2` or `restart 2` when it
//! wants that to happen, and goes on when a line comes in.

use std::io::Write as _;
use std::time::Duration;

use tokio::time::timeout;
use zookeeper_client::{
    Acls, AddWatchMode, Client, Connector, CreateMode, CreateOptions, Error, EventType, LockPrefix, MultiReadResult,
    MultiWriteError, MultiWriteResult, OneshotWatcher, PersistentWatcher, SessionState,
};

const PATIENCE: Duration = Duration::from_secs(30);
const PLAIN: CreateOptions<'static> = CreateMode::Persistent.with_acls(Acls::anyone_all());
const SEQUENTIAL: CreateOptions<'static> = CreateMode::PersistentSequential.with_acls(Acls::anyone_all());
const EPHEMERAL: CreateOptions<'static> = CreateMode::Ephemeral.with_acls(Acls::anyone_all());
const CONTAINER: CreateOptions<'static> = CreateMode::Container.with_acls(Acls::anyone_all());

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, hosts, scenario] = &arguments[..] else { panic!("usage: client HOSTS SCENARIO") };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        match scenario.as_str() {
            "operations" => operations(connect(hosts).await).await,
            "multi" => multi(connect(hosts).await).await,
            "acls" => acls(hosts).await,
            "watches" => watches(hosts).await,
            "locks" => locks(hosts).await,
            "ephemerals" => ephemerals(hosts).await,
            "failover" => failover(hosts).await,
            "reconnect" => reconnect(hosts).await,
            _ => panic!("no scenario {scenario}"),
        }
    });
    println!("done");
}

async fn connect(hosts: &str) -> Client {
    let connector: Connector = Client::connector().with_session_timeout(Duration::from_secs(20));
    timeout(PATIENCE, connector.connect(hosts)).await.expect("in time").expect("connected")
}

/// Asks whoever started this program to do something to the cluster.
fn ask(wish: &str) {
    println!("{wish}");
    std::io::stdout().flush().expect("somebody listens");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("somebody answers");
    assert!(!line.is_empty(), "nobody did: {wish}");
}

async fn operations(client: Client) {
    let (stat, _) = client.create("/r", b"one", &PLAIN).await.expect("created");
    assert_eq!((stat.czxid, stat.version, stat.data_length), (stat.mzxid, 0, 3));
    assert_eq!(client.create("/r", b"", &PLAIN).await.unwrap_err(), Error::NodeExists);
    assert_eq!(client.create("/none/child", b"", &PLAIN).await.unwrap_err(), Error::NoNode);
    assert_eq!(client.get_data("/r").await.expect("there"), (b"one".to_vec(), stat));
    assert_eq!(client.get_data("/none").await.unwrap_err(), Error::NoNode);
    let stat = client.set_data("/r", b"three", Some(0)).await.expect("set");
    assert_eq!((stat.version, stat.data_length), (1, 5));
    assert_eq!(client.set_data("/r", b"", Some(0)).await.unwrap_err(), Error::BadVersion);
    let mut names = Vec::new();
    for _ in 0..3 {
        let (_, sequence) = client.create("/r/n-", b"", &SEQUENTIAL).await.expect("created");
        names.push(format!("n-{sequence}"));
    }
    assert_eq!(names, ["n-0000000000", "n-0000000001", "n-0000000002"]);
    let (mut children, stat) = client.get_children("/r").await.expect("there");
    children.sort();
    assert_eq!((children, stat.num_children, stat.cversion), (names, 3, 3));
    assert_eq!(client.list_children("/none").await.unwrap_err(), Error::NoNode);
    assert_eq!(client.delete("/r", None).await.unwrap_err(), Error::NotEmpty);
    assert_eq!(client.delete("/r/n-0000000000", Some(4)).await.unwrap_err(), Error::BadVersion);
    client.delete("/r/n-0000000000", Some(0)).await.expect("deleted");
    assert_eq!(client.delete("/r/n-0000000000", None).await.unwrap_err(), Error::NoNode);
    client.create("/r/box", b"", &CONTAINER).await.expect("a container");
    let short = PLAIN.with_ttl(Duration::from_secs(5));
    assert_eq!(client.create("/r/short", b"", &short).await.unwrap_err(), Error::Unimplemented);
    assert_eq!(client.count_descendants_number("/r").await.expect("there"), 3);
    client.sync("/r").await.expect("a barrier");
    assert_eq!(client.check_stat("/none").await.expect("no error"), None);
    let (config, _) = client.get_config().await.expect("there");
    assert!(config.is_empty() || config.starts_with(b"server."), "{config:?}");
    let inner = client.clone().chroot("/r").map_err(|_| "no chroot").expect("a path");
    assert_eq!(inner.get_data("/").await.expect("there").0, b"three");
}

async fn multi(client: Client) {
    client.create("/m", b"", &PLAIN).await.expect("created");
    let mut writer = client.new_multi_writer();
    writer.add_create("/m/a", b"a", &PLAIN).expect("valid");
    writer.add_check_version("/m", 0).expect("valid");
    writer.add_set_data("/m", b"b", Some(0)).expect("valid");
    writer.add_delete("/m/a", None).expect("valid");
    let results = writer.commit().await.expect("all of it");
    let [
        MultiWriteResult::Create { path, stat },
        MultiWriteResult::Check,
        MultiWriteResult::SetData { stat: set },
        MultiWriteResult::Delete,
    ] = &results[..]
    else {
        panic!("{results:?}");
    };
    assert_eq!((path.as_str(), stat.data_length, set.version), ("/m/a", 1, 1));
    let mut writer = client.new_multi_writer();
    writer.add_create("/m/never", b"", &PLAIN).expect("valid");
    writer.add_check_version("/m", 0).expect("valid");
    let failed = writer.commit().await.unwrap_err();
    assert_eq!(failed, MultiWriteError::OperationFailed { index: 1, source: Error::BadVersion });
    assert_eq!(client.check_stat("/m/never").await.expect("no error"), None);
    let mut reader = client.new_multi_reader();
    reader.add_get_data("/m").expect("valid");
    reader.add_get_children("/m").expect("valid");
    reader.add_get_data("/m/never").expect("valid");
    let results = reader.commit().await.expect("answered");
    let [MultiReadResult::Data { data, .. }, MultiReadResult::Children { children }, MultiReadResult::Error { err }] =
        &results[..]
    else {
        panic!("{results:?}");
    };
    assert_eq!((data.as_slice(), children.len(), err), (&b"b"[..], 0, &Error::NoNode));
}

async fn acls(hosts: &str) {
    let (client, other) = (connect(hosts).await, connect(hosts).await);
    client.auth("digest", b"user:secret").await.expect("digest is known");
    let users = client.list_auth_users().await.expect("whoAmI");
    assert!(users.iter().any(|user| user.scheme() == "digest" && user.user() == "user"), "{users:?}");
    let mine = CreateMode::Persistent.with_acls(Acls::creator_all());
    client.create("/acl", b"kept", &mine).await.expect("created");
    other.sync("/").await.expect("a barrier");
    assert_eq!(other.get_data("/acl").await.unwrap_err(), Error::NoAuth);
    assert_eq!(other.set_data("/acl", b"", None).await.unwrap_err(), Error::NoAuth);
    let (acl, stat) = client.get_acl("/acl").await.expect("there");
    assert_eq!((acl[0].scheme(), stat.aversion), ("digest", 0));
    let stat = client
        .set_acl(
            "/acl",
            &[zookeeper_client::Acl::new(zookeeper_client::Permission::READ, zookeeper_client::AuthId::anyone())],
            Some(0),
        )
        .await
        .expect("set");
    assert_eq!(stat.aversion, 1);
    other.sync("/").await.expect("a barrier");
    assert_eq!(other.get_data("/acl").await.expect("now for everybody").0, b"kept");
    assert_eq!(client.set_data("/acl", b"", None).await.unwrap_err(), Error::NoAuth);
}

async fn is_told(watcher: OneshotWatcher, kind: EventType, path: &str) {
    let event = timeout(PATIENCE, watcher.changed()).await.expect("an event in time");
    assert_eq!((event.event_type, event.path.as_str()), (kind, path));
}

async fn is_next(watcher: &mut PersistentWatcher, kind: EventType, path: &str) {
    let event = timeout(PATIENCE, watcher.changed()).await.expect("an event in time");
    assert_eq!((event.event_type, event.path.as_str()), (kind, path), "{event:?}");
}

async fn watches(hosts: &str) {
    let (client, other) = (connect(hosts).await, connect(hosts).await);
    client.create("/w", b"", &PLAIN).await.expect("created");
    let (_, exists) = client.check_and_watch_stat("/w/new").await.expect("no error");
    let (_, _, children) = client.get_and_watch_children("/w").await.expect("there");
    let mut plain = client.watch("/w", AddWatchMode::Persistent).await.expect("watched");
    let mut recursive = client.watch("/w", AddWatchMode::PersistentRecursive).await.expect("watched");
    other.create("/w/new", b"", &PLAIN).await.expect("created");
    is_told(exists, EventType::NodeCreated, "/w/new").await;
    is_told(children, EventType::NodeChildrenChanged, "/w").await;
    is_next(&mut plain, EventType::NodeChildrenChanged, "/w").await;
    is_next(&mut recursive, EventType::NodeCreated, "/w/new").await;
    let (_, _, data) = client.get_and_watch_data("/w/new").await.expect("there");
    other.set_data("/w/new", b"x", None).await.expect("set");
    is_told(data, EventType::NodeDataChanged, "/w/new").await;
    other.set_data("/w", b"x", None).await.expect("set");
    other.create("/w/new/deep", b"", &PLAIN).await.expect("created");
    other.delete("/w/new/deep", None).await.expect("deleted");
    other.delete("/w/new", None).await.expect("deleted");
    is_next(&mut plain, EventType::NodeDataChanged, "/w").await;
    is_next(&mut plain, EventType::NodeChildrenChanged, "/w").await;
    for (kind, path) in [
        (EventType::NodeDataChanged, "/w/new"),
        (EventType::NodeDataChanged, "/w"),
        (EventType::NodeCreated, "/w/new/deep"),
        (EventType::NodeDeleted, "/w/new/deep"),
        (EventType::NodeDeleted, "/w/new"),
    ] {
        is_next(&mut recursive, kind, path).await;
    }
}

async fn locks(hosts: &str) {
    let (first, second) = (connect(hosts).await, connect(hosts).await);
    first.create("/lock", b"", &PLAIN).await.expect("created");
    let prefix = || LockPrefix::new_curator("/lock", "lock-").expect("valid");
    let held = first.lock(prefix(), b"first", Acls::anyone_all()).await.expect("nobody holds it");
    let mut waiting = Box::pin(second.lock(prefix(), b"second", Acls::anyone_all()));
    loop {
        tokio::select! {
            _ = &mut waiting => panic!("two hold the lock"),
            children = first.list_children("/lock") => {
                if children.expect("there").len() == 2 {
                    break;
                }
            }
        }
    }
    held.create("/guarded", b"", &PLAIN).await.expect("only whoever holds it may");
    let guarded = held.new_check_writer().commit().await;
    assert!(guarded.is_ok(), "{guarded:?}");
    drop(held);
    let held = timeout(PATIENCE, waiting).await.expect("in time").expect("it is free");
    held.set_data("/guarded", b"second", None).await.expect("held");
}

async fn ephemerals(hosts: &str) {
    let (client, other) = (connect(hosts).await, connect(hosts).await);
    client.create("/e", b"", &PLAIN).await.expect("created");
    other.sync("/").await.expect("a barrier");
    let (stat, _) = other.create("/e/a", b"", &EPHEMERAL).await.expect("created");
    assert_eq!(stat.ephemeral_owner, other.session_id().0);
    assert_eq!(other.create("/e/a/b", b"", &PLAIN).await.unwrap_err(), Error::NoChildrenForEphemerals);
    assert_eq!(other.list_ephemerals("/e").await.expect("no error"), ["/e/a"]);
    client.sync("/").await.expect("a barrier");
    let (stat, gone) = client.check_and_watch_stat("/e/a").await.expect("no error");
    assert!(stat.is_some());
    drop(other);
    is_told(gone, EventType::NodeDeleted, "/e/a").await;
}

/// Makes a call again as long as the connection breaks.
macro_rules! retry {
    ($call:expr) => {
        loop {
            match $call.await {
                Err(Error::ConnectionLoss) => tokio::time::sleep(Duration::from_millis(20)).await,
                done => break done,
            }
        }
    };
}

async fn failover(hosts: &str) {
    let client = connect(hosts).await;
    client.create("/f", b"", &EPHEMERAL).await.expect("created");
    let session = client.session_id();
    for round in 0..3 {
        ask("crash leader");
        let data = format!("{round}").into_bytes();
        retry!(client.set_data("/f", &data, None)).expect("set");
        let (found, stat) = retry!(client.get_data("/f")).expect("the session lives, and so does what it owns");
        assert_eq!((found, stat.ephemeral_owner, client.session_id()), (data, session.0, session));
    }
}

/// What watches missed while their client was away is told when it is back. Of persistent watches this client, in version
/// 0.11.2, says nothing when it comes back (it always sends the shorter `setWatches`), so they are not asked for here.
async fn reconnect(hosts: &str) {
    let hosts: Vec<&str> = hosts.split(',').collect();
    let (watching, writer) = (connect(hosts[1]).await, connect(hosts[2]).await);
    writer.create("/p", b"", &PLAIN).await.expect("created");
    watching.sync("/").await.expect("a barrier");
    let (_, _, data) = watching.get_and_watch_data("/p").await.expect("there");
    let (_, _, children) = watching.get_and_watch_children("/p").await.expect("there");
    let (_, exists) = watching.check_and_watch_stat("/p/a").await.expect("no error");
    let (_, later) = watching.check_and_watch_stat("/p/later").await.expect("no error");
    let mut states = watching.state_watcher();
    ask("crash 2");
    retry!(writer.create("/p/a", b"", &PLAIN)).expect("created");
    retry!(writer.set_data("/p", b"x", None)).expect("set");
    assert_eq!(timeout(PATIENCE, states.changed()).await.expect("in time"), SessionState::Disconnected);
    ask("restart 2");
    is_told(data, EventType::NodeDataChanged, "/p").await;
    is_told(children, EventType::NodeChildrenChanged, "/p").await;
    is_told(exists, EventType::NodeCreated, "/p/a").await;
    retry!(writer.create("/p/later", b"", &PLAIN)).expect("created");
    is_told(later, EventType::NodeCreated, "/p/later").await;
}
