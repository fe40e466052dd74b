//! Many replicas over real NATS servers, of which a part is gone: the first replica, or the way between two islands.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::replica::{all_equal, join, knows, median, shows, within};
use aether_conformance::{NatsServer, ServerOptions, free_port};
use aether_field::Field;
use tokio::io::{AsyncBufReadExt as _, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The process that is killed: the first replica of a field, from which the next ones get what there is.
const CHILD: &str = "AETHER_FIELD_CHILD";

async fn connected(server: &NatsServer, replica: &str) -> Field {
    // A departure shows as soon as the options allow.
    let builder = Field::builder("home").replica(replica).silence(Duration::from_secs(2));
    builder.join(&aether::connect(&server.url()).await.unwrap()).await.unwrap()
}

/// The registers that the first replica writes.
const BEFORE: u64 = 500;

async fn first(url: &str) {
    let field = join(&aether::connect(url).await.unwrap(), "first").await;
    for n in 0..BEFORE {
        field.set(&format!("before/{n}"), &n).unwrap();
    }
    println!("ready .");
    std::future::pending().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c3_14_fifty_nodes_go_on_and_take_more_when_the_first_one_is_killed() {
    const NODES: usize = 50;
    if let Ok(url) = std::env::var(CHILD) {
        return first(&url).await;
    }
    let server = NatsServer::start().await.unwrap();
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "islands::c3_14_fifty_nodes_go_on_and_take_more_when_the_first_one_is_killed",
            "--nocapture",
        ])
        .env(CHILD, server.url())
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    within("the first node", async {
        while !lines.next_line().await.unwrap().unwrap().ends_with("ready .") {}
    })
    .await;
    let mut nodes = Vec::new();
    for at in 1..NODES {
        nodes.push(connected(&server, &format!("node-{at}")).await);
    }
    // All of them have what the first one wrote before they came.
    for node in &nodes {
        shows_number(node, &format!("before/{}", BEFORE - 1), BEFORE - 1).await;
    }
    // On a busy machine it may leave and come again before it is killed, so its presence counts and not the events.
    let mut events = nodes[0].peer_events();
    let has_first = || nodes[0].peers().iter().any(|peer| peer.replica == "first");
    within("the first node", async {
        while !has_first() {
            events.next().await.unwrap();
        }
    })
    .await;
    let mut took = Vec::new();
    for (at, node) in nodes.iter().enumerate() {
        // Killed in the middle of it.
        if at == nodes.len() / 2 {
            child.start_kill().unwrap();
        }
        let begin = Instant::now();
        node.set(&format!("during/{at}"), &at).unwrap();
        took.push(begin.elapsed());
    }
    let typical = median(took.split_off(nodes.len() / 2));
    // A wait would take as long as a question, half a second at least.
    assert!(typical < Duration::from_millis(100), "nobody waits for a dead peer (C3 9): {typical:?}");
    child.wait().await.unwrap();
    within("the departure", async {
        while has_first() {
            events.next().await.unwrap();
        }
    })
    .await;
    all_equal(&nodes).await;
    assert_eq!(nodes[0].list("*").len(), BEFORE as usize + nodes.len());
    // A node that comes later gets everything all the same, and all of them hear of it.
    let late = connected(&server, "late").await;
    within("agreement", late.agreed(1)).await.unwrap();
    assert_eq!(late.list("*").len(), BEFORE as usize + nodes.len());
    late.set("after", "late").unwrap();
    for node in &nodes {
        shows(node, "after", Some("late")).await;
    }
}

async fn shows_number(field: &Field, name: &str, number: u64) {
    let mut updates = field.watch(name);
    within(name, async {
        while field.get::<u64>(name).unwrap() != Some(number) {
            updates.next().await.unwrap();
        }
    })
    .await;
}

/// A way between two servers that can be closed, and opened again.
struct Bridge {
    port: u16,
    is_open: Arc<watch::Sender<bool>>,
}

impl Bridge {
    async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let bridge =
            Self { port: listener.local_addr().unwrap().port(), is_open: Arc::new(watch::Sender::new(true)) };
        let is_open = Arc::clone(&bridge.is_open);
        tokio::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                let mut open = is_open.subscribe();
                tokio::spawn(async move {
                    if *open.borrow()
                        && let Ok(mut to) = TcpStream::connect(("127.0.0.1", port)).await
                    {
                        tokio::select! {
                            _ = copy_bidirectional(&mut from, &mut to) => {}
                            _ = open.wait_for(|open| !open) => {}
                        }
                    }
                });
            }
        });
        bridge
    }
}

/// C2 5, C4: each island is a NATS server with replicas of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn islands_go_on_alone_and_converge_when_they_are_joined_again() {
    // The server takes no port of its own choice here that could be asked for.
    let port = free_port().unwrap();
    let options = |name: &str, leaf: String| {
        ServerOptions::default().setting("server_name", name).setting("leafnodes", leaf)
    };
    let leaf = format!("{{ listen: \"127.0.0.1:{port}\", no_advertise: true }}");
    let east = NatsServer::start_with(options("east", leaf)).await.unwrap();
    let bridge = Bridge::to(port).await;
    let leaf = format!("{{ reconnect: 1, remotes: [{{ url: \"nats-leaf://127.0.0.1:{}\" }}] }}", bridge.port);
    let west = NatsServer::start_with(options("west", leaf)).await.unwrap();
    let mut islands: [Vec<Field>; 2] = Default::default();
    for (island, server) in islands.iter_mut().zip([&east, &west]) {
        for at in 0..3 {
            island.push(connected(server, &format!("replica-{at}")).await);
        }
    }
    let [of_east, of_west] = &islands;
    of_east[0].set("shared", "before").unwrap();
    of_east[0].set("removed", "before").unwrap();
    for field in of_west {
        shows(field, "shared", Some("before")).await;
        shows(field, "removed", Some("before")).await;
    }
    // A value may have come from a replica before the beats of the others have.
    knows(&of_east[0], of_west).await;
    knows(&of_west[0], of_east).await;
    bridge.is_open.send_replace(false);
    // Cut off in both directions: each island has taken note of all three that are gone.
    for (field, gone) in [(&of_east[0], of_west), (&of_west[0], of_east)] {
        let mut events = field.peer_events();
        let is_there = |other: &Field| field.peers().iter().any(|peer| peer.writer == other.writer());
        within("departures", async {
            while gone.iter().any(is_there) {
                events.next().await.unwrap();
            }
        })
        .await;
    }
    for (island, name) in islands.iter().zip(["east", "west"]) {
        for (at, field) in island.iter().enumerate() {
            field.set(&format!("{name}/{at}"), name).unwrap();
            field.add("visits", 1).unwrap();
            field.insert("names", format!("{name}/{at}")).unwrap();
        }
        island[0].set("shared", name).unwrap();
        // The islands work by themselves.
        for field in island {
            shows(field, "shared", Some(name)).await;
        }
    }
    of_west[1].remove("removed").unwrap();
    assert_eq!(of_east[0].get_json("west/0"), None, "the bridge is closed");
    bridge.is_open.send_replace(true);
    let joined = Instant::now();
    all_equal(&islands.concat()).await;
    println!("equal {:?} after the bridge was opened", joined.elapsed());
    for field in islands.iter().flatten() {
        // The later write, everybody's additions, and no value that was removed.
        assert_eq!(field.get::<String>("shared").unwrap().as_deref(), Some("west"));
        assert_eq!((field.count("visits"), field.members("names").len()), (6, 6));
        assert_eq!(field.get_json("removed"), None);
    }
}
