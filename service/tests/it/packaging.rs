//! What is packaged sets nothing that the binary does not know, and offers all that it knows.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use nightshift::config::Config;
use serde_json::Value;

/// Variables of client commands and of the examples' executors.
const OTHERS: &[&str] = &["server", "token", "secret"];

fn repository(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn settings() -> BTreeSet<String> {
    let Value::Object(settings) = serde_json::to_value(Config::default()).unwrap() else {
        panic!("the settings are no object")
    };
    settings.keys().cloned().collect()
}

/// A misspelt setting would keep the service from starting.
#[test]
fn what_is_packaged_sets_only_what_there_is() {
    let settings = settings();
    for file in [
        "Dockerfile",
        "compose.yaml",
        "packaging/systemd/nightshift.service",
        "helm/nightshift/templates/_env.tpl",
        "helm/nightshift/templates/backup.yaml",
        "helm/nightshift/templates/workers.yaml",
    ] {
        let text = repository(file);
        let mut found = 0;
        for part in text.split("NIGHTSHIFT_").skip(1) {
            let end = part.find(|c: char| !c.is_ascii_uppercase() && c != '_');
            let name = part[..end.unwrap_or(part.len())].to_ascii_lowercase();
            let known = settings.contains(&name) || OTHERS.contains(&name.as_str());
            // The name is empty where the chart puts in one of those that the last test compares.
            assert!(known || name.is_empty(), "{file} sets NIGHTSHIFT_{}", name.to_uppercase());
            found += 1;
        }
        assert!(found > 0, "{file} sets nothing");
    }
}

/// What is written in it as a comment is there to be taken out of the comment.
#[test]
fn the_packaged_settings_can_be_used() {
    let text = repository("packaging/nightshift.toml");
    let all: Vec<&str> = text
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
        .collect();
    let all = all.join("\n");
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("some.toml", &text), ("all.toml", &all)] {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        let no_flags = BTreeMap::<String, String>::new();
        let config = Config::load(Some(path), no_flags).unwrap_or_else(|error| {
            panic!("{name}: {error:#}");
        });
        assert_eq!(config.database_url, "sqlite:///var/lib/nightshift/nightshift.db");
        assert_eq!(config.plugin_directories.is_empty(), name == "some.toml");
        let shown = Config { database_url: Config::default().database_url, ..config };
        let defaults = Config {
            plugin_directories: shown.plugin_directories.clone(),
            public_url: shown.public_url.clone(),
            ..Config::default()
        };
        assert_eq!(shown, defaults, "{name} shows another default");
    }
}

/// Commands read what the unit hands to the service, without being told.
#[test]
fn the_unit_s_variables_lie_beside_the_settings() {
    let unit = repository("packaging/systemd/nightshift.service");
    let value = |name: &str| unit.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    let settings = Path::new(value("ExecStart=").split_once("--config ").unwrap().1);
    let variables = Path::new(value("EnvironmentFile=-"));
    assert_eq!(variables, settings.with_file_name("environment"));
}

/// The chart offers every setting, but those that it sets by itself.
#[test]
fn the_chart_has_every_setting() {
    let schema: Value =
        serde_json::from_str(&repository("helm/nightshift/values.schema.json")).unwrap();
    let offered = schema["properties"]["settings"]["properties"].as_object().unwrap();
    let offered: BTreeSet<String> = offered.keys().cloned().collect();
    let own = [
        "bind",
        "database_url",
        "database_listen_url",
        "admin_token",
        "admin_token_file",
        "secrets_key",
        "secrets_key_file",
        "tls_certificate",
        "tls_key",
        "plugin_cache",
    ];
    let wanted = settings().into_iter().filter(|name| !own.contains(&name.as_str()));
    assert_eq!(offered, wanted.collect());
}
