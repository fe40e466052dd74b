//! Signed waves: all processes have the keys of sealed waves, and some of them pose as others.

use std::path::Path;
use std::time::{Duration, Instant, UNIX_EPOCH};

use aether::nats::{NatsError, NatsOptions};
use aether::seal::{FileOr, Role, SealKeys, Sealer, Signers, SigningError, SigningKey};
use aether_conformance::NatsServer;
use aether_core::account::{AccountError, Accounts};
use aether_core::{Aether, Channel, ConnectError, EchoReason, InboxOptions, Kind, Vibrator, Wave, WhenFull};
use aether_link::wire::{Position, Sender, decode, encode_at};

use crate::proxy::Proxy;
use crate::sealed::scene::{Enemy, PATIENCE, connect, next, options, within};
use crate::settling::flushed;

/// A group of three: `shop`, `ear`, and `rogue`, who has its own key and the keys of sealed waves as the others have.
struct Group {
    server: NatsServer,
    keys: SealKeys,
    shop_key: SigningKey,
    rogue_key: SigningKey,
    here: Aether,
    there: Aether,
    shop: Vibrator,
    ear: Vibrator,
    rogue: Aether,
    enemy: Enemy,
}

fn key() -> SigningKey {
    SigningKey::generate().unwrap()
}

fn signed(keys: &SealKeys, key: &SigningKey, signers: impl Into<FileOr<Signers>>) -> NatsOptions {
    options(keys.clone()).signing_key(key.clone()).signers(signers)
}

async fn program(url: &str, name: &str, options: NatsOptions) -> Aether {
    let every = Some(Duration::from_millis(50));
    aether::builder().url(url).program(name).account_every(every).options(options).connect().await.unwrap()
}

/// Whatever the umask is.
#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;

    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[cfg(not(unix))]
fn set_mode(_: &Path, _: u32) {}

fn micros_since_1970() -> u64 {
    UNIX_EPOCH.elapsed().unwrap().as_micros() as u64
}

impl Group {
    async fn new() -> Self {
        let server = NatsServer::start().await.unwrap();
        let enemy = Enemy::new(&server).await;
        let keys = SealKeys::generate().unwrap();
        let (shop_key, ear_key, rogue_key) = (key(), key(), key());
        let mut signers = Signers::new();
        for (name, key) in
            [("shop", &shop_key), ("ear", &ear_key), ("watcher", &ear_key), ("rogue", &rogue_key)]
        {
            signers = signers.allow(name, key.public_key()).unwrap();
        }
        let url = server.url();
        let here = program(&url, "shop", signed(&keys, &shop_key, signers.clone())).await;
        let there = program(&url, "ear", signed(&keys, &ear_key, signers)).await;
        // It believes everybody, as far as that matters.
        let rogue = program(&url, "rogue", options(keys.clone()).signing_key(rogue_key.clone())).await;
        let ear = Vibrator::create("ear", &there).await.unwrap();
        ear.resonate_on("shop.*").await.unwrap();
        let shop = Vibrator::create("shop", &here).await.unwrap();
        Self { server, keys, shop_key, rogue_key, here, there, shop, ear, rogue, enemy }
    }

    /// Nothing of what was published before is delivered but this wave.
    async fn only_the_next_wave_arrives(&mut self) {
        self.enemy.fence().await;
        self.shop.emit_bytes("shop.mark", "").await.unwrap();
        let wave = next(&mut self.ear).await;
        assert_eq!(wave.channel().as_str(), "shop.mark", "{wave:?}");
    }

    /// Messages that `ear` refused: unsigned, unknown signer, forged, misnamed.
    fn refused(&self) -> [u64; 4] {
        let status = self.there.status();
        assert_eq!(
            status.refused_tampered + status.refused_plain + status.refused_unknown_key,
            0,
            "{status:?}"
        );
        [
            status.refused_unsigned,
            status.refused_unknown_signer,
            status.refused_forged,
            status.refused_misnamed,
        ]
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_on_the_list_is_heard_and_proven_in_waves_questions_and_answers() {
    let mut group = Group::new().await;
    let watcher = Vibrator::builder("watcher").observe().create(&group.there).await.unwrap();
    watcher.resonate_on("shop.price").await.unwrap();
    let mut watcher = watcher;
    // Packed: one signature covers them all.
    let waves = (0..200).map(|_| Wave::from_bytes("shop.load", "x").unwrap());
    group.shop.emit_all(waves).await.unwrap();
    for _ in 0..200 {
        let wave = next(&mut group.ear).await;
        let proven = wave.proven_source().expect("a proven source");
        assert_eq!((proven.name(), proven.signer()), ("shop", group.shop_key.id()));
        assert_eq!(proven.source(), group.shop.source());
    }
    let frames = group
        .enemy
        .fence()
        .await
        .into_iter()
        .filter(|message| message.subject.as_str() == "aether.shop.load");
    assert!(frames.count() < 100, "many waves share a signature");
    let ask = group.shop.ask_within(Wave::builder("shop.price").text("?").build().unwrap(), PATIENCE);
    let ear = &mut group.ear;
    let answer = async {
        let question = next(ear).await;
        assert_eq!(question.proven_source().unwrap().name(), "shop");
        question.reply_bytes("17").await.unwrap();
    };
    let (answered, ()) = tokio::join!(ask, answer);
    let answered = answered.unwrap();
    assert_eq!((answered.proven_source().unwrap().name(), answered.text().unwrap()), ("ear", "17"));
    // The asker sends the copies of both. It proves its question, and not the answer of another.
    let (question, copy) = (next(&mut watcher).await, next(&mut watcher).await);
    assert_eq!((question.text().unwrap(), question.proven_source().unwrap().name()), ("?", "shop"));
    assert_eq!((copy.kind(), copy.source().name(), copy.proven_source()), (Kind::Response, "ear", None));
    assert_eq!((group.refused(), group.here.status().refused()), ([0; 4], 0));
    // Without a list everybody is heard and nobody proven. In process nothing is proven.
    let mut open = Vibrator::create("open", &group.rogue).await.unwrap();
    open.resonate_on("shop.load").await.unwrap();
    group.shop.emit_bytes("shop.load", "x").await.unwrap();
    assert_eq!(next(&mut open).await.proven_source(), None);
    let local = Aether::local();
    let mut ear = Vibrator::create("ear", &local).await.unwrap();
    ear.resonate_on("a").await.unwrap();
    local.emitter("shop").unwrap().emit_bytes("a", "x").await.unwrap();
    assert_eq!(next(&mut ear).await.proven_source(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_of_the_group_that_uses_the_name_of_another_is_refused_and_counted() {
    let mut group = Group::new().await;
    let emit = async |aether: &Aether, name: &str| {
        aether.emitter(name).unwrap().emit_bytes("shop.load", "forged").await.unwrap();
        flushed(aether).await;
    };
    emit(&group.rogue, "shop").await;
    group.only_the_next_wave_arrives().await;
    let misnamed = group.refused()[3];
    assert!(misnamed >= 1 && group.refused()[..3] == [0; 3], "{:?}", group.refused());
    // In its own name it is heard.
    emit(&group.rogue, "rogue").await;
    assert_eq!(next(&mut group.ear).await.proven_source().unwrap().signer(), group.rogue_key.id());
    // Not signed, and signed by a stranger with the keys of sealed waves.
    let unsigned = connect(&group.server.url(), options(group.keys.clone())).await;
    emit(&unsigned, "shop").await;
    group.only_the_next_wave_arrives().await;
    assert!(group.refused()[0] >= 1, "{:?}", group.refused());
    let stranger_key = key();
    let stranger =
        connect(&group.server.url(), options(group.keys.clone()).signing_key(stranger_key.clone())).await;
    emit(&stranger, "shop").await;
    group.only_the_next_wave_arrives().await;
    assert!(group.refused()[1] >= 1 && group.refused()[2] == 0, "{:?}", group.refused());
    let unknown = aether::seal::unknown_signers(&group.there);
    assert!(unknown.len() == 1 && unknown[0].0 == stranger_key.id(), "{unknown:?}");
    // It answers nothing in the name of another either.
    let mut false_ear = Vibrator::create("ear", &group.rogue).await.unwrap();
    false_ear.resonate_on("far.price").await.unwrap();
    let ask = group.shop.ask_within(Wave::builder("far.price").text("?"), PATIENCE);
    let answer = async { next(&mut false_ear).await.reply_bytes("0").await.unwrap() };
    let (asked, ()) = tokio::join!(ask, answer);
    assert!(asked.is_err(), "{asked:?}");
    assert!(group.here.status().refused_misnamed >= 1);
    assert_eq!(group.there.status().malformed, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signed_frame_that_is_repeated_moved_or_signed_anew_is_refused() {
    let mut group = Group::new().await;
    group.shop.emit_bytes("shop.load", "x").await.unwrap();
    next(&mut group.ear).await;
    let real = group.enemy.overhear("aether.shop.load").await.payload;
    for _ in 0..10 {
        group.enemy.publish("aether.shop.load", real.clone()).await;
    }
    group.only_the_next_wave_arrives().await;
    assert_eq!(group.there.status().refused_replayed, 10);
    // A member can open it, seal it again and sign it with its own key, which may not use the name.
    let member = Sealer::signing(group.keys.clone(), Some(group.rogue_key.clone()), None).unwrap();
    let frame = member.open_again(Role::Waves, "aether.shop.load", &real).unwrap().frame;
    let anew = member.seal(Role::Waves, "aether.shop.load", "", &frame).unwrap();
    group.enemy.publish("aether.shop.load", anew).await;
    group.only_the_next_wave_arrives().await;
    assert_eq!(group.refused(), [0, 0, 0, 1]);
    // Moved to another channel.
    group.enemy.publish("aether.shop.other", real).await;
    group.enemy.fence().await;
    group.shop.emit_bytes("shop.mark", "").await.unwrap();
    assert_eq!(next(&mut group.ear).await.channel().as_str(), "shop.mark");
    assert_eq!(group.there.status().refused_tampered, 1);
}

/// Each of its frames comes from a sender of its own: together they are more than a receiver keeps windows for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_with_26302_senders_cuts_nobody_else_off() {
    const FRAMES: u32 = 26_302;
    let mut group = Group::new().await;
    let member = Sealer::signing(group.keys.clone(), Some(group.rogue_key.clone()), None).unwrap();
    for number in 0..FRAMES {
        member.renew().unwrap();
        let sender = Sender { node: u64::from(number), sent_micros: micros_since_1970() };
        let position = Position { stream: 0, first: 0, age_micros: 0 };
        let frame = encode_at(sender, Some(position), None, &[], Instant::now()).unwrap();
        let sealed = member.seal(Role::Waves, "aether.shop.load", "", &frame).unwrap();
        group.enemy.publish("aether.shop.load", sealed).await;
        // The receiver is never so far behind that the server gives it up.
        if number % 1000 == 999 {
            group.only_the_next_wave_arrives().await;
        }
    }
    group.only_the_next_wave_arrives().await;
    // A process that starts now is new to the receiver as well.
    let signers = Signers::new().allow("shop", group.shop_key.public_key()).unwrap();
    let restarted = program(&group.server.url(), "shop", signed(&group.keys, &group.shop_key, signers)).await;
    let shop = Vibrator::create("shop", &restarted).await.unwrap();
    for number in 0..10 {
        shop.emit_bytes("shop.load", number.to_string()).await.unwrap();
        assert_eq!(next(&mut group.ear).await.text().unwrap(), number.to_string());
    }
    assert_eq!(group.ear.ledger().lost_upstream, 0);
}

/// A member attacks a sender whose numbers it knows, with a list and without one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_invents_no_loss_in_the_stream_of_another() {
    let mut group = Group::new().await;
    let open = connect(&group.server.url(), options(group.keys.clone()).signing_key(key())).await;
    let mut open_ear = Vibrator::create("open", &open).await.unwrap();
    open_ear.resonate_on("shop.*").await.unwrap();
    group.shop.emit_bytes("shop.load", "x").await.unwrap();
    next(&mut group.ear).await;
    next(&mut open_ear).await;
    let real = group.enemy.overhear("aether.shop.load").await.payload;
    let member = Sealer::signing(group.keys.clone(), Some(group.rogue_key.clone()), None).unwrap();
    let frame = member.open_again(Role::Waves, "aether.shop.load", &real).unwrap().frame;
    let channel = Channel::new("shop.load").unwrap();
    let frame = decode(&frame, Some(&channel), Instant::now(), |_| Duration::ZERO).unwrap();
    let position = frame.position.unwrap();
    let ahead = Position { first: position.first + 1000, age_micros: 3_600_000_000, ..position };
    let sender = Sender { node: frame.sender.node, sent_micros: micros_since_1970() };
    let forged = encode_at(sender, Some(ahead), None, &[], Instant::now()).unwrap();
    let forged = member.seal(Role::Waves, "aether.shop.load", "", &forged).unwrap();
    group.enemy.publish("aether.shop.load", forged).await;
    group.only_the_next_wave_arrives().await;
    assert_eq!(next(&mut open_ear).await.channel().as_str(), "shop.mark");
    assert!(open.status().lost_upstream >= 999, "without a list it is believed: {:?}", open.status());
    assert_eq!((group.ear.ledger().lost_upstream, group.there.status().lost_upstream), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_announces_accounts_and_reports_in_no_name_but_its_own() {
    let group = Group::new().await;
    let mut roster = group.here.roster().await.unwrap();
    let mut accounts = group.here.accounts().await.unwrap();
    let mut echoes = group.shop.echoes().await.unwrap();
    // Accounts: one in its own name, one in the name of the ear.
    let posing = options(group.keys.clone()).signing_key(group.rogue_key.clone());
    let posing = program(&group.server.url(), "ear", posing).await;
    within("the accounts", async {
        let is_known = |accounts: &Accounts, name: &str| {
            accounts.processes().iter().any(|known| known.account.process.name() == name)
        };
        while !is_known(&accounts, "rogue")
            || !is_known(&accounts, "ear")
            || accounts.counts().of(AccountError::Misnamed) == 0
        {
            accounts.changed().await;
        }
    })
    .await;
    let of_the_ear = accounts.processes().into_iter().filter(|known| known.account.process.name() == "ear");
    assert_eq!(of_the_ear.count(), 1, "only the account of the ear itself");
    // Announcements: of two vibrators of the rogue one is in its name.
    let posed = Vibrator::create("ear", &posing).await.unwrap();
    posed.resonate_on("shop.posed").await.unwrap();
    let mut own = Vibrator::create("rogue", &posing).await.unwrap();
    own.resonate_on("rogue.*").await.unwrap();
    let present = |roster: &aether_core::presence::Roster, vibrator: &Vibrator| {
        roster.vibrators().iter().any(|present| present.vibrator == *vibrator.source())
    };
    within("the own vibrator in the roster", async {
        while !present(&roster, &own) || !present(&roster, &group.ear) {
            roster.changed().await;
        }
    })
    .await;
    assert!(!present(&roster, &posed), "{:?}", roster.vibrators());
    // Echoes: the rogue hears a command and reports that another one failed to handle it.
    let command = || Wave::builder("rogue.command").kind(Kind::Command).text("x").build().unwrap();
    group.shop.emit(command()).await.unwrap();
    let heard = next(&mut own).await;
    posing.emitter("ear").unwrap().reflect(&heard, EchoReason::Rejected, "a lie").await;
    own.reflect(&heard, EchoReason::Rejected, "in its own name").await;
    let echo = within("the echo", echoes.receive()).await.unwrap();
    assert_eq!((echo.by.as_str(), echo.hint.as_str()), ("rogue", "in its own name"));
    assert!(futures::FutureExt::now_or_never(echoes.receive()).is_none());
    assert_eq!(group.here.echo_ledger().refused, 1);
    // An honest vibrator that sheds a command reports that in its own name.
    let inbox = InboxOptions::default().max_waves(1).when_full(WhenFull::Shed);
    let full = Vibrator::builder("watcher").inbox(inbox).create(&group.there).await.unwrap();
    full.resonate_on("far.command").await.unwrap();
    for _ in 0..2 {
        let command = Wave::builder("far.command").kind(Kind::Command).text("x").build().unwrap();
        group.shop.emit(command).await.unwrap();
    }
    assert_eq!(within("the echo", echoes.receive()).await.unwrap().by, "watcher");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_takes_effect_with_the_next_connection_and_a_key_is_rotated_without_a_loss() {
    let server = NatsServer::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (key_file, list) = (folder.path().join("shop.key"), folder.path().join("signers"));
    let (keys, old, new, ear_key) = (SealKeys::generate().unwrap(), key(), key(), key());
    old.save_new(&key_file).unwrap();
    let write_list = |shops: &[&SigningKey]| {
        let mut text = format!("ear {0}\nprobe {0}\n", ear_key.public_key());
        for key in shops {
            text += &format!("shop {0}\nprobe {0}\n", key.public_key());
        }
        std::fs::write(&list, text).unwrap();
        set_mode(&list, 0o644);
    };
    write_list(&[&old]);
    let (here_proxy, there_proxy) =
        (Proxy::new(server.port()).await.unwrap(), Proxy::new(server.port()).await.unwrap());
    let here = options(keys.clone()).signing_key(&key_file);
    let here = program(&here_proxy.url(), "shop", here).await;
    let there = program(&there_proxy.url(), "ear", signed(&keys, &ear_key, &list)).await;
    let mut ear = Vibrator::create("ear", &there).await.unwrap();
    ear.resonate_on("shop.load").await.unwrap();
    let shop = Vibrator::create("shop", &here).await.unwrap();
    let reconnect = async |proxy: &Proxy, aether: &Aether| {
        proxy.cut().await;
        proxy.mend();
        // A join needs the connection.
        let probe = Vibrator::create("probe", aether).await.unwrap();
        within("the connection", probe.resonate_on("probe")).await.unwrap();
    };
    let mut signer = async |text: &'static str| {
        shop.emit_bytes("shop.load", text).await.unwrap();
        let wave = next(&mut ear).await;
        assert_eq!(wave.text().unwrap(), text);
        wave.proven_source().unwrap().signer()
    };
    assert_eq!(signer("the old key").await, old.id());
    write_list(&[&old, &new]);
    reconnect(&there_proxy, &there).await;
    assert_eq!(signer("both listed").await, old.id());
    std::fs::remove_file(&key_file).unwrap();
    new.save_new(&key_file).unwrap();
    reconnect(&here_proxy, &here).await;
    assert_eq!(signer("the new key").await, new.id());
    write_list(&[&new]);
    reconnect(&there_proxy, &there).await;
    assert_eq!(signer("the new key alone").await, new.id());
    // A list without the own key, or none at all, leaves everything as it was.
    for text in [format!("shop {}\n", old.public_key()), String::new()] {
        std::fs::write(&list, text).unwrap();
        reconnect(&there_proxy, &there).await;
        assert_eq!(signer("as before").await, new.id());
    }
    let status = there.status();
    assert_eq!((status.refused(), status.lost_upstream), (0, 0), "{status:?}");
    // Once the key is off the list, it is refused.
    write_list(&[&old]);
    reconnect(&there_proxy, &there).await;
    shop.emit_bytes("shop.load", "no longer").await.unwrap();
    flushed(&here).await;
    within("the refusal", async {
        while there.status().refused_unknown_signer == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(aether::seal::unknown_signers(&there)[0].0, new.id());
}

/// Without a new connection, and without a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signer_that_is_taken_off_the_list_is_soon_not_believed_any_more() {
    let server = NatsServer::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("signers");
    let (keys, shop_key, rogue_key, ear_key) = (SealKeys::generate().unwrap(), key(), key(), key());
    let write_list = |signers: &[(&str, &SigningKey)]| {
        // As it is to be written: beside, and renamed.
        let beside = folder.path().join("beside");
        let lines = signers.iter().map(|(name, key)| format!("{name} {}\n", key.public_key()));
        std::fs::write(&beside, lines.collect::<String>()).unwrap();
        set_mode(&beside, 0o644);
        std::fs::rename(&beside, &list).unwrap();
    };
    write_list(&[("ear", &ear_key), ("shop", &shop_key), ("rogue", &rogue_key)]);
    let there = program(&server.url(), "ear", signed(&keys, &ear_key, &list)).await;
    let mut ear = Vibrator::create("ear", &there).await.unwrap();
    ear.resonate_on("shop.load").await.unwrap();
    let signing = |key: &SigningKey| options(keys.clone()).signing_key(key.clone());
    let here = program(&server.url(), "shop", signing(&shop_key)).await;
    let elsewhere = program(&server.url(), "rogue", signing(&rogue_key)).await;
    let (shop, rogue) = (here.emitter("shop").unwrap(), elsewhere.emitter("rogue").unwrap());
    rogue.emit_bytes("shop.load", "believed").await.unwrap();
    assert_eq!(next(&mut ear).await.text().unwrap(), "believed");
    write_list(&[("ear", &ear_key), ("shop", &shop_key)]);
    // The messages that arrive cause a look at the file, once a second.
    within("the change of the list", async {
        while there.status().refused_unknown_signer == 0 {
            rogue.emit_bytes("shop.load", "rogue").await.unwrap();
            flushed(&elsewhere).await;
            shop.emit_bytes("shop.load", "shop").await.unwrap();
            while next(&mut ear).await.text().unwrap() != "shop" {}
        }
    })
    .await;
    assert_eq!(aether::seal::unknown_signers(&there)[0].0, rogue_key.id());
    assert_eq!(there.status().connects, 1);
}

#[tokio::test]
async fn options_that_would_prove_nothing_are_refused() {
    let server = NatsServer::start().await.unwrap();
    let refused = async |options: NatsOptions| {
        aether::builder().url(server.url()).options(options).connect().await.unwrap_err()
    };
    let reason = |error: &ConnectError| match error.of_medium() {
        Some(NatsError::Signing(SigningError::NotListed { signer })) => format!("not listed: {signer}"),
        Some(NatsError::Signing(error @ SigningError::File(_))) => error.to_string(),
        Some(NatsError::Signing(error)) => format!("{error:?}"),
        _ => panic!("{error:?}"),
    };
    let (keys, own, other) = (SealKeys::generate().unwrap(), key(), key());
    let list = |key: &SigningKey| Signers::new().allow("shop", key.public_key()).unwrap();
    let unsealed = refused(NatsOptions::default().signing_key(own.clone())).await;
    assert_eq!(reason(&unsealed), "NotSealed");
    assert_eq!(reason(&refused(NatsOptions::default().signers(list(&own))).await), "NotSealed");
    assert_eq!(reason(&refused(options(keys.clone()).signers(list(&own))).await), "NoOwnKey");
    let unlisted = refused(signed(&keys, &own, list(&other))).await;
    assert_eq!(reason(&unlisted), format!("not listed: {}", own.id()));
    let folder = tempfile::tempdir().unwrap();
    let missing = reason(&refused(options(keys.clone()).signing_key(folder.path().join("none"))).await);
    assert!(missing.contains("none"), "{missing}");
    let shown = format!("{:?}", signed(&keys, &own, list(&own)));
    assert!(shown.contains(&own.id().to_string()) && !shown.contains("aether-signing-key"), "{shown}");
}
