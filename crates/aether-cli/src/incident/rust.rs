//! Parts of Rust: names, comments, lists and numbers as people write them.

use std::time::Duration;

/// The length of a line.
pub(super) const WIDTH: usize = 100;
/// The names that a test has already.
const TAKEN: [&str; 10] =
    ["observe", "sorted", "as_recorded", "sim", "found", "others", "is_it", "incident", "aether", "shutdown"];

/// The name of a function.
pub(super) fn identifier(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let snake = words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("_");
    let is_free = !TAKEN.contains(&&*snake) && !is_syntax(&snake);
    if is_free && snake.starts_with(|c: char| c.is_ascii_alphabetic()) {
        snake
    } else {
        format!("the_{snake}")
    }
}

/// Whether it is a word of Rust's syntax.
fn is_syntax(word: &str) -> bool {
    const WORDS: &str = " as async await break const continue crate dyn else enum extern false fn for gen if impl in let loop \
                         match mod move mut pub ref return self static struct super trait true try type unsafe use where \
                         while abstract become box do final macro override priv typeof unsized virtual yield ";
    WORDS.contains(&format!(" {word} "))
}

/// Writes a comment in lines.
pub(super) fn comment(text: &mut String, begin: &str, words: &str) {
    let mut line = begin.to_owned();
    for word in words.split(' ') {
        if line.len() + word.len() >= WIDTH && line.len() > begin.len() {
            text.push_str(&line);
            text.push('\n');
            line = begin.to_owned();
        }
        line.push(' ');
        line.push_str(word);
    }
    text.push_str(&line);
    text.push('\n');
}

/// A list in brackets, in lines with this indentation if it is long.
pub(super) fn list(items: impl Iterator<Item = String>, indent: usize) -> String {
    let items: Vec<String> = items.collect();
    let one = format!("[{}]", items.join(", "));
    if one.len() + indent <= WIDTH - 12 {
        return one;
    }
    let (mut text, space) = ("[".to_owned(), " ".repeat(indent));
    let mut line = String::new();
    for item in items {
        if line.is_empty() || line.len() + item.len() + 2 > WIDTH {
            text.push_str(line.trim_end());
            line = format!("\n{space}    ");
        }
        line.push_str(&item);
        line.push_str(", ");
    }
    text.push_str(line.trim_end());
    text.push('\n');
    text.push_str(&space);
    text.push(']');
    text
}

/// A number with its thousands apart.
pub(super) fn grouped(number: u128) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) && digits.len() > 4 {
            text.push('_');
        }
        text.push(digit);
    }
    text
}

pub(super) fn millis(time: Duration) -> String {
    format!("Duration::from_millis({})", grouped(time.as_millis()))
}

pub(super) fn duration(time: Duration) -> String {
    let micros = time.as_micros();
    if micros.is_multiple_of(1000) {
        millis(time)
    } else {
        format!("Duration::from_micros({})", grouped(micros))
    }
}

pub(super) fn nanos(time: Duration) -> String {
    format!("Duration::from_nanos({})", grouped(time.as_nanos()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_becomes_one_of_a_function() {
        for (name, function) in [
            ("beta", "beta"),
            ("Shop-2", "shop_2"),
            ("2nd", "the_2nd"),
            ("größe__a", "gr_e_a"),
            ("match", "the_match"),
            ("sim", "the_sim"),
            ("", "the_"),
        ] {
            assert_eq!(identifier(name), function);
        }
    }

    #[test]
    fn long_lists_and_comments_have_lines() {
        let numbers = |most: u32| list((0..most).map(|number| number.to_string()), 4);
        assert_eq!(numbers(3), "[0, 1, 2]");
        let long = numbers(100);
        assert!(long.starts_with("[\n        0, 1, ") && long.ends_with(" 99,\n    ]"), "{long}");
        assert!(long.lines().all(|line| line.len() <= WIDTH + 8), "{long}");
        let mut text = String::new();
        comment(&mut text, "//!", &"word ".repeat(60));
        assert!(text.lines().count() > 3 && text.lines().all(|line| line.len() <= WIDTH), "{text}");
    }

    #[test]
    fn numbers_are_grouped_and_times_are_exact() {
        assert_eq!([0, 9999, 10_000, 1_234_567].map(grouped), ["0", "9999", "10_000", "1_234_567"]);
        assert_eq!(duration(Duration::from_micros(2000)), "Duration::from_millis(2)");
        assert_eq!(duration(Duration::from_micros(166_667)), "Duration::from_micros(166_667)");
    }
}
