//! One flag for each setting, made from the table.

use std::{collections::BTreeMap, marker::PhantomData, path::PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, value_parser};

use super::{Setting, raw::ENV_CONFIG, table};

const CONFIG: &str = "config";

/// Which settings a command has flags for.
pub(crate) trait Audience {
    /// Whether it has one for this.
    fn wants(setting: &Setting) -> bool;
}

/// For commands that look at all settings.
#[derive(Debug)]
pub(crate) struct AllSettings;

/// For the broker.
#[derive(Debug)]
pub(crate) struct OfBroker;

/// For the services.
#[derive(Debug)]
pub(crate) struct OfServices;

impl Audience for AllSettings {
    fn wants(_: &Setting) -> bool {
        true
    }
}

impl Audience for OfBroker {
    fn wants(setting: &Setting) -> bool {
        !setting.is_of_services()
    }
}

impl Audience for OfServices {
    fn wants(setting: &Setting) -> bool {
        setting.is_of_services() || setting.is_of_any_process()
    }
}

/// The settings that flags give.
#[derive(Debug)]
pub(crate) struct SettingFlags<A> {
    /// The configuration file that `--config` names.
    pub(crate) config: Option<PathBuf>,
    /// The values of the flags that were given, by key.
    pub(crate) values: BTreeMap<&'static str, String>,
    audience: PhantomData<A>,
}

impl<A: Audience> Args for SettingFlags<A> {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new(CONFIG)
            .long(CONFIG)
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help(format!("The configuration file, TOML [env: {ENV_CONFIG}]"))
            .help_heading("Settings");
        command.arg(config).args(table::all().filter(|setting| A::wants(setting)).map(flag))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn flag(setting: &'static Setting) -> Arg {
    let short = setting.help.split_inclusive(". ").next().unwrap_or_default().trim_end().trim_end_matches('.');
    let default = setting.default.map_or_else(String::new, |default| format!("[default: {default}] "));
    let heading = match setting.section() {
        "" => "Settings".to_owned(),
        section => format!("Settings: {section}"),
    };
    Arg::new(setting.key)
        .long(setting.flag())
        .value_name(setting.slot.value_name())
        .action(ArgAction::Set)
        // A negative number is better refused with the range that is expected than as an unknown flag.
        .allow_negative_numbers(true)
        .help(format!("{short} {default}").trim_end().to_owned())
        .long_help(format!(
            "{}\nExpects {}.\n{default}[env: {}] [file: {}]",
            setting.help,
            setting.slot.expected(),
            setting.env(),
            setting.key
        ))
        .help_heading(heading)
}

impl<A: Audience> FromArgMatches for SettingFlags<A> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |setting: &Setting| matches.get_one::<String>(setting.key).cloned();
        Ok(Self {
            config: matches.get_one::<PathBuf>(CONFIG).cloned(),
            values: table::all()
                .filter(|setting| A::wants(setting))
                .filter_map(|setting| Some((setting.key, given(setting)?)))
                .collect(),
            audience: PhantomData,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        let Self { config, values, .. } = Self::from_arg_matches(matches)?;
        self.config = config.or(self.config.take());
        self.values.extend(values);
        Ok(())
    }
}
