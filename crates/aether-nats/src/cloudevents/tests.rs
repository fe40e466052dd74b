//! Events that are read back as they were written, and events of other programs.

use super::*;

fn message(headers: HeaderMap, payload: Bytes) -> Message {
    Message {
        subject: "aether.a".into(),
        reply: None,
        length: payload.len(),
        payload,
        headers: Some(headers),
        status: None,
        description: None,
    }
}

fn read_back(headers: HeaderMap, payload: Bytes) -> Wave {
    let channel = Channel::new("a").unwrap();
    read(message(headers, payload), &channel, Kind::Event, &mut Foreign::new(), clock::now())
}

#[test]
fn every_amplitude_is_read_back_as_it_was() {
    for loss in 0..=u16::MAX {
        let amplitude = Amplitude::from_loss(loss);
        let text = amplitude.as_f32().to_string();
        let read: f32 = text.parse().unwrap();
        assert_eq!(Amplitude::new(read), Ok(amplitude), "{text}");
    }
    let wave = Wave::builder("a").amplitude(Amplitude::from_loss(2049)).build().unwrap();
    let back = read_back(headers(&wave, clock::now()), Bytes::new());
    assert_eq!(back.amplitude(), wave.amplitude());
}

#[test]
fn a_position_is_read_back_and_nonsense_is_none() {
    let at = Position { stream: u64::MAX, first: 17, age_micros: 0 };
    let wave = Wave::from_bytes("a", "").unwrap();
    let written = numbered(&wave, 0xAB, at, clock::now());
    assert_eq!(position(&message(written.clone(), Bytes::new())), Some((0xAB, at)));
    assert!(read_back(written, Bytes::new()).metadata().is_empty());
    for nonsense in ["", "ab", "ab.1.2", "ab.1.2.3.4", "xy.1.2.3", "ab.1.2.-3", "ab.1..3"] {
        let mut headers = HeaderMap::new();
        headers.insert(POSITION, nonsense);
        assert_eq!(position(&message(headers, Bytes::new())), None, "{nonsense}");
    }
}

#[test]
fn a_small_payload_does_not_keep_the_block_it_was_read_into() {
    let block = Bytes::from(vec![7; 64 << 10]);
    let small = read_back(HeaderMap::new(), block.slice(..SHARED_FROM - 1));
    assert!(!block.as_ptr_range().contains(&small.payload().as_ptr()));
    let large = read_back(HeaderMap::new(), block.slice(..SHARED_FROM));
    assert!(block.as_ptr_range().contains(&large.payload().as_ptr()));
}

#[test]
fn baggage_is_read_back_and_what_is_none_stays_a_header() {
    let with = |headers: &[&str]| {
        let mut map = HeaderMap::new();
        headers.iter().for_each(|value| map.append(BAGGAGE, *value));
        let wave = read_back(map, Bytes::new());
        (wave.baggage().clone(), wave.metadata().value(BAGGAGE).map(str::to_owned))
    };
    let given = Baggage::of([("user", "Zoë, 50 % ;\\\"x\"=y"), ("empty", "")]).unwrap();
    let written = write_baggage(&given);
    assert_eq!(written, "empty=,user=Zo%C3%AB%2C%2050%20%25%20%3B%5C%22x%22=y");
    assert_eq!(with(&[&written]), (given, None));
    // Spaces and properties, as other writers send them.
    let other = Baggage::of([("a", "1"), ("b", "2")]).unwrap();
    assert_eq!(with(&[" a = 1;secret;ttl=3 , b=2"]), (other, None));
    let many = (0..=MAX_BAGGAGE_ENTRIES).map(|n| format!("n{n}=v")).collect::<Vec<_>>().join(",");
    let long = format!("a={}", "v".repeat(aether_core::wave::MAX_BAGGAGE_BYTES));
    for bad in ["", "a", "a=1,a=2", "a b=1", "a=%FF", "a=%0A", &many, &long] {
        assert_eq!(with(&[bad]), (Baggage::default(), Some(bad.to_owned())), "{bad}");
    }
    assert_eq!(with(&["a=1", "b=2"]), (Baggage::default(), Some("a=1".to_owned())));
}

#[test]
fn the_root_is_read_back_and_another_correlation_id_stays_a_header() {
    let id = |text: &str| text.parse::<WaveId>().unwrap();
    let builder = Wave::builder("a").cause(id("shop@7/2"));
    let wave = builder.root(id("shop@7/1")).build().unwrap();
    let headers_of = |wave: &Wave| headers(wave, aether_core::clock::now());
    let read = read_back(headers_of(&wave), Bytes::new());
    assert_eq!((read.cause(), read.root()), (Some(&id("shop@7/2")), id("shop@7/1")));
    assert!(read.metadata().is_empty());
    let direct = Wave::builder("a").cause(id("shop@7/1")).build().unwrap();
    assert_eq!(headers_of(&direct).get(ROOT).unwrap().as_str(), "shop@7/1");
    assert_eq!(read_back(headers_of(&direct), Bytes::new()).stored_root(), None);
    let mut foreign = HeaderMap::new();
    foreign.insert(ROOT, "order 17");
    let read = read_back(foreign, Bytes::new());
    assert_eq!((read.root(), read.metadata().value(ROOT)), (read.id(), Some("order 17")));
}

#[test]
fn the_content_type_may_come_as_an_attribute() {
    let with = |entries: &[(&str, &str)]| {
        let mut headers = HeaderMap::new();
        entries.iter().for_each(|(name, value)| headers.append(*name, *value));
        let wave = read_back(headers, Bytes::new());
        (wave.content_type().clone(), wave.metadata().value(DATA_CONTENT_TYPE).map(str::to_owned))
    };
    let json = "application/json";
    assert_eq!(with(&[(DATA_CONTENT_TYPE, json)]), (ContentType::Json, None));
    let kept = Some(json.to_owned());
    assert_eq!(with(&[(CONTENT_TYPE, "text/plain"), (DATA_CONTENT_TYPE, json)]), (ContentType::Text, kept));
    assert_eq!(with(&[(DATA_CONTENT_TYPE, "")]), (ContentType::Bytes, Some(String::new())));
}

fn unfold(headers: &[(&str, &str)], payload: &str) -> (BTreeMap<String, String>, String) {
    let mut map = HeaderMap::new();
    headers.iter().for_each(|(name, value)| map.append(*name, *value));
    let message = unfolded(Message {
        subject: "aether.a".into(),
        reply: None,
        length: payload.len(),
        payload: payload.to_owned().into(),
        headers: Some(map),
        status: None,
        description: None,
    });
    let headers = message.headers.unwrap();
    let line = |(name, values): (&HeaderName, &Vec<HeaderValue>)| {
        (AsRef::<str>::as_ref(name).to_owned(), values[0].as_str().to_owned())
    };
    (headers.iter().map(line).collect(), String::from_utf8(message.payload.to_vec()).unwrap())
}

const EVENT: &str =
    r#"{"specversion":"1.0","id":"7","source":"/shop","type":"t","sequence":3,"subject":"café","data":DATA}"#;

#[test]
fn a_structured_event_has_its_attributes_and_the_bytes_of_its_data() {
    let data = r#"{"z":1, "b":12345678901234567890123,"d":1.10,"e":1E2,"dup":1,"dup":2}"#;
    let event = EVENT.replace("DATA", data);
    let typed = [("content-type", "Application/CloudEvents+JSON; charset=utf-8")];
    for headers in [&typed[..], &[]] {
        let (attributes, payload) = unfold(headers, &event);
        assert_eq!(payload, data);
        assert_eq!(attributes["ce-id"], "7");
        assert_eq!(attributes["ce-sequence"], "3");
        assert_eq!(attributes["ce-subject"], "café");
        assert_eq!(attributes[CONTENT_TYPE], "application/json");
    }
    let text = EVENT.replace("\"data\":DATA", r#""datacontenttype":"text/plain","data":"hé\n""#);
    assert_eq!(unfold(&[], &text).1, "hé\n");
    let marked = format!("\u{feff}{event}");
    assert_eq!(unfold(&typed, &marked).1, data);
}

#[test]
fn what_is_no_event_stays_as_it_is() {
    for plain in ["{}", r#"{"specversion":"1.0","id":"7"}"#, r#"{"specversion": "#, "\"specversion\""] {
        assert_eq!(unfold(&[], plain).1, plain);
    }
    let event = EVENT.replace("DATA", "1");
    assert_eq!(unfold(&[("Content-Type", "application/json")], &event).1, event, "its type is plain JSON");
    assert_eq!(unfold(&[("X-Other", "a%20b")], "x").0["X-Other"], "a%20b");
}

#[test]
fn names_are_read_in_any_case_and_values_as_http_has_them() {
    let (read, _) = unfold(
        &[
            ("CE-Id", "7"),
            ("content-type", "text/plain"),
            ("ce-subject", "caf%C3%A9"),
            ("Ce-Title", r#""a \"q\" b""#),
            ("ce-bad", "caf%E9"),
        ],
        "x",
    );
    assert_eq!((&*read["ce-id"], &*read[CONTENT_TYPE]), ("7", "text/plain"));
    assert_eq!((&*read["ce-subject"], &*read["ce-title"]), ("café", "a \"q\" b"));
    assert_eq!(read["ce-bad"], "caf%E9", "not invented");
}
