//! Names, topics and patterns: a grammar, and a match, that are written here once more in another way.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zonecast_protocol::{ClientId, Kind, QueueGroup, Topic, TopicPattern, WorldName, check_state_key};

fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

fn is_topic(text: &str, wildcards: bool) -> bool {
    let tokens: Vec<&str> = text.split('.').collect();
    let fits = |(place, token): (usize, &&str)| match *token {
        "*" => wildcards,
        ">" => wildcards && place + 1 == tokens.len(),
        plain => !plain.is_empty() && plain.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c)),
    };
    text.len() <= 255 && tokens.len() <= 16 && tokens.iter().enumerate().all(fits)
}

fn matches(pattern: &[&str], topic: &[&str]) -> bool {
    match (pattern, topic) {
        ([], []) => true,
        ([">"], [_, ..]) => true,
        (["*", pattern @ ..], [_, topic @ ..]) => matches(pattern, topic),
        ([token, pattern @ ..], [actual, topic @ ..]) => token == actual && matches(pattern, topic),
        _ => false,
    }
}

fuzz_target!(|input: &str| {
    let (first, second) = input.split_once('\n').unwrap_or((input, input));
    for text in [first, second] {
        assert_eq!(WorldName::new(text).is_ok(), is_name(text));
        assert_eq!(Kind::new(text).is_ok(), is_name(text));
        assert_eq!(QueueGroup::new(text).is_ok(), is_name(text));
        assert_eq!(ClientId::new(text).is_ok_and(|id| id.as_str() == text), is_name(text));
        assert_eq!(Topic::new(text).is_ok(), is_topic(text, false));
        assert_eq!(TopicPattern::new(text).is_ok(), is_topic(text, true));
        assert_eq!(check_state_key(text).is_ok(), (1..=128).contains(&text.len()));
    }
    let (Ok(pattern), Ok(topic)) = (TopicPattern::new(first), Topic::new(second)) else { return };
    let tokens: Vec<&str> = first.split('.').collect();
    let shown = !(second.starts_with('_') && matches!(tokens[0], "*" | ">"));
    let wanted = shown && matches(&tokens, &second.split('.').collect::<Vec<_>>());
    assert_eq!(pattern.matches(topic.as_str()), wanted);
});
