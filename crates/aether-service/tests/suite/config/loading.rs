//! Layers, and what is said about mistakes.

use crate::config::stage::{Folder, Greeter};
use aether_service::config::{Configuration, OrOff, Section, Settings};

fn origin(config: &Configuration, key: &str) -> String {
    let list = config.list();
    let setting = list.iter().find(|setting| setting.key == key).unwrap();
    format!("{} {}", setting.value, setting.origin.rsplit('/').next().unwrap())
}

#[test]
fn later_layers_replace_earlier_ones_and_each_value_has_its_origin() {
    let folder = Folder::with(&[
        (
            "default.toml",
            "[inbox]\nfloor = 0.1\nmax_waves = 100\nmax_bytes = '1 MiB'\n[service.greeter]\nguests = 7\n",
        ),
        ("prod.toml", "inbox.floor = 0.2\ninbox.max_waves = 200\n"),
    ]);
    let config = folder.args(Some("prod"), &["inbox.floor=0.3"]).load::<Greeter>().unwrap();
    let settings = config.settings();
    assert_eq!(f32::from(settings.inbox.floor), aether_core::Floor::new(0.3).unwrap().as_f32());
    assert_eq!(settings.inbox.max_waves.get(), 200);
    assert_eq!(settings.inbox.max_bytes.bytes(), 1 << 20);
    assert_eq!(config.section::<Greeter>(), Greeter { guests: 7, ..Greeter::default() });
    assert_eq!(config.files().len(), 2);
    assert_eq!(origin(&config, "inbox.floor"), "0.3 --set");
    assert_eq!(origin(&config, "inbox.max_waves"), "200 prod.toml:2");
    assert_eq!(origin(&config, "inbox.max_bytes"), "\"1 MiB\" default.toml:4");
    assert_eq!(origin(&config, "service.greeter.guests"), "7 default.toml:6");
    assert_eq!(origin(&config, "inbox.order"), "\"strength\" built-in");
}

#[test]
fn without_files_the_defaults_are_in_force() {
    let folder = Folder::with(&[]);
    let config = folder.load().unwrap();
    assert_eq!(config.settings(), Settings::default());
    assert!(config.files().is_empty());
    assert_eq!(Configuration::default().settings(), Settings::default());
}

#[test]
fn all_mistakes_are_reported_at_once_with_file_and_line() {
    let folder = Folder::with(&[(
        "default.toml",
        "[inbox]\nmax_wave = 5\nfloor = 2\nmax_bytes = 5\norder = 'fast'\n\n[inbx]\nfloor = 0.1\n\n\
         [handlers]\nrate = 'often'\nconcurrency = 0\n[service.greeter]\nguests = -1\ngreting = 'hi'\n",
    )]);
    let error = folder.args(None, &["log.filter=[", "medium.wire=smoke"]).load::<Greeter>().unwrap_err();
    let lines: Vec<_> = error.mistakes.iter().map(ToString::to_string).collect();
    let expected = [
        ("default.toml:2: ", "did you mean inbox.max_waves?"),
        ("default.toml:3: ", "2.4e-10 to 1"),
        ("default.toml:4: ", "such as 64 MiB"),
        ("default.toml:5: ", "`strength` or `arrival`"),
        ("default.toml:8: ", "did you mean inbox.floor?"),
        ("default.toml:11: ", "such as 100/s"),
        ("default.toml:12: ", "a whole number from 1 to 1048576"),
        ("default.toml:14: ", "a whole number from 0 to 4294967295"),
        ("default.toml:15: ", "did you mean service.greeter.greeting?"),
        ("--set: ", "a level such as debug"),
        ("--set: ", "use frames or cloudevents"),
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, (place, remedy)) in lines.iter().zip(expected) {
        assert!(line.contains(place) && line.contains(remedy), "{place} {remedy}: {line}");
    }
}

#[test]
fn a_wrong_profile_or_folder_is_named_with_what_is_there() {
    let folder = Folder::with(&[("default.toml", ""), ("prod.toml", ""), ("test.toml", "")]);
    let refused = |profile| folder.args(Some(profile), &[]).load::<Greeter>().unwrap_err().to_string();
    assert!(refused("prd").contains("the profiles here are prod, test"), "{}", refused("prd"));
    assert!(refused("../prod").contains("is not the name of a profile"), "{}", refused("../prod"));
    let mut args = folder.args(None, &[]);
    args.folder = Some(folder.file("nowhere"));
    assert!(args.load::<Greeter>().unwrap_err().to_string().contains("there is no such folder"));
}

#[test]
fn secrets_and_passwords_are_not_shown() {
    let folder = Folder::with(&[(
        "default.toml",
        "[medium]\nurl = 'nats://shop:hunter2@a:4222'\n[service.greeter]\ntoken = 'hunter2'\n",
    )]);
    let config = folder.load().unwrap();
    assert_eq!(config.section::<Greeter>().token, "hunter2");
    let shown = format!("{:?} {config:?}", config.list());
    assert!(shown.contains("nats://***@a:4222") && shown.contains("token = ***"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
    folder.write("default.toml", "[service.greeter]\ntoken = 12345\n");
    let refused = folder.load().unwrap_err().to_string();
    assert!(refused.contains("service.greeter.token") && !refused.contains("12345"), "{refused}");
}

#[test]
fn sections_of_other_programs_are_left_to_them() {
    let folder =
        Folder::with(&[("default.toml", "[service.shop]\nanything = 1\n[service.greeter]\nguests = 1\n")]);
    let config = folder.load().unwrap();
    assert_eq!(config.others(), ["service.shop"]);
    assert_eq!(config.section::<Greeter>().guests, 1);
}

#[test]
fn a_section_has_a_default_for_every_field() {
    let config = Folder::with(&[]).load().unwrap();
    let keys: Vec<_> = config.list().into_iter().map(|setting| setting.key).collect();
    for field in ["greeting", "guests", "pause", "token"] {
        assert!(keys.contains(&format!("service.{}.{field}", Greeter::NAME)), "{keys:?}");
    }
    assert_eq!(config.section::<Greeter>().pause, OrOff::Off);
}
