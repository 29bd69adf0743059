use clap::Command as ClapCommand;

use super::*;

/// The words of a shell line, with quotes removed; `|`, `>` and `\` at a line's end are as in a shell.
fn commands(line: &str) -> Vec<Vec<String>> {
    let mut commands = vec![Vec::new()];
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            (c, Some(_)) => word.get_or_insert_default().push(c),
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            ('\\', None) => word.get_or_insert_default().extend(chars.next()),
            (' ' | '|' | '>' | '<', None) => {
                commands.last_mut().unwrap().extend(word.take());
                if c != ' ' {
                    commands.push(Vec::new());
                }
            }
            (c, None) => word.get_or_insert_default().push(c),
        }
    }
    commands.last_mut().unwrap().extend(word);
    commands
}

/// The arguments of every call of zonecast in the text: its indented lines, and what stands in backticks.
fn examples(text: &str) -> Vec<Vec<String>> {
    let joined = text.replace("\\\n", " ");
    let lines = joined.lines().filter(|line| line.starts_with(' ')).map(str::to_owned);
    let quoted = text.split('`').skip(1).step_by(2).map(|quoted| quoted.replace('\n', " "));
    let is_assignment = |word: &String| word.starts_with("ZONECAST_") && word.contains('=');
    lines
        .chain(quoted)
        .flat_map(|line| commands(&line))
        .map(|words| words.into_iter().skip_while(is_assignment).collect::<Vec<_>>())
        .filter(|words| words.first().is_some_and(|word| word == "zonecast") && words.len() > 1)
        .filter(|words| words[1] != "help")
        .collect()
}

fn walk(command: &ClapCommand, found: &mut Vec<(String, String)>) {
    let text = [command.get_long_about(), command.get_after_help()].map(|part| part.map(ToString::to_string));
    found.push((command.get_name().to_owned(), text.map(Option::unwrap_or_default).join("\n\n")));
    // What is hidden is not for people.
    command.get_subcommands().filter(|sub| !sub.is_hide_set()).for_each(|sub| walk(sub, found));
}

#[test]
fn the_command_line_is_well_formed() {
    Cli::command().debug_assert();
}

#[test]
fn every_example_in_the_help_is_accepted() {
    let mut texts = Vec::new();
    walk(&Cli::command(), &mut texts);
    let mut count = 0;
    for (name, text) in texts {
        let found = examples(&text);
        assert!(!found.is_empty(), "the help of {name} has no example");
        for words in found {
            count += 1;
            if let Err(error) = Cli::try_parse_from(&words) {
                panic!("in the help of {name}: {}\n{error}", words.join(" "));
            }
        }
    }
    assert!(count >= 30, "only {count} examples were found");
}

#[test]
fn what_messages_advise_is_accepted() {
    let problem = crate::settings::Problem::NoCertificate { keys: vec!["tls.key"] };
    let found = examples(&problem.to_string());
    assert_eq!(found.len(), 2, "{problem}");
    for words in found {
        assert!(Cli::try_parse_from(&words).is_ok(), "{words:?}");
    }
}

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split(' '))
}

#[test]
fn negative_numbers_are_values() {
    for line in [
        "zonecast pub --world w --at -1,2 --radius 1",
        "zonecast pub --world w --at=-1,-2 --radius 1",
        "zonecast sub --zone w:-1,-1,0,0",
        "zonecast sub --zone=w:-1,-1,0,0",
    ] {
        assert!(parse(line).is_ok(), "{line}");
    }
}

#[test]
fn flags_that_make_no_sense_together_are_refused() {
    for line in [
        "zonecast sub",
        "zonecast sub --zone w:0,0,1,1 --queue g",
        "zonecast sub --topic t --kind k",
        "zonecast sub --topic t --cert c.pem",
        "zonecast pub payload",
        "zonecast pub --topic t --at 1,2 --world w --radius 1",
        "zonecast pub --topic t --radius 1",
        "zonecast pub --topic t --kind k",
        "zonecast pub --at 1,2 --radius 1",
        "zonecast pub --at 1,2 --world w",
        "zonecast pub --world w --at 1,2 --radius -1",
        "zonecast pub --topic t --class state",
        "zonecast pub --topic t --key k",
        "zonecast pub --topic t.*",
        "zonecast replay --zones z",
        "zonecast replay --zones z --events e --speed 0",
        "zonecast cert",
        "zonecast cert --out d --days 0",
        "zonecast cert --out d --client a/b",
        "zonecast broker --workers 1 --workers 2",
        "zonecast config print --json --example",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
}

#[test]
fn a_key_is_for_state_only() {
    let key = |line: &str| match parse(line).unwrap().command {
        Command::Pub(args) => args.state_key().map(|key| key.map(str::to_owned)).ok(),
        other => panic!("{other:?}"),
    };
    assert_eq!(key("zonecast pub --topic t --class state --state-key k"), Some(Some("k".to_owned())));
    assert_eq!(key("zonecast pub --topic t"), Some(None));
    assert_eq!(key("zonecast pub --topic t --state-key k"), None);
}

#[test]
fn variables_of_other_commands_are_known() {
    let known = known_variables();
    assert_eq!(
        known,
        [
            "ZONECAST_CA",
            "ZONECAST_COMMIT",
            "ZONECAST_CONNECT",
            "ZONECAST_SERVICES",
            "ZONECAST_TEST_POSTGRES",
            "ZONECAST_TEST_PYTHON",
            "ZONECAST_TOKEN"
        ]
    );
}
