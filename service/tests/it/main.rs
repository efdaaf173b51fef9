//! All tests of the service in one binary, so that they are linked once.
#![expect(unreachable_pub, reason = "nothing is outside of a test")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "what is not as expected fails the test, and says where"
)]

mod support;

mod addresses;
mod asks;
mod audit;
mod backup_command;
mod bounds;
mod cancel;
mod clock;
mod command_family;
mod command_line;
mod connections;
mod contract;
mod copy_command;
mod crash;
mod database_file;
mod dead_rows;
mod delivery;
mod doctor;
mod document;
mod event_log;
mod events;
mod executor_command;
mod front_door;
mod hostile_text;
mod https;
mod input;
mod inputs;
mod leases;
mod lists;
mod log;
mod log_bounds;
mod memory;
mod metrics;
mod model;
mod order;
mod owner;
mod packaging;
mod packaging_command;
mod plugin_command;
mod plugin_places;
mod plugins;
mod postgres;
mod postgres_settings;
mod postgres_silent;
mod problems;
mod process;
mod push;
mod queues;
mod reach;
mod repeat;
mod replicas;
mod retention;
mod rust_client;
mod rust_worker;
mod settings;
mod standard_error;
mod tasks;
mod time;
mod token_command;
mod tokens;
mod traces;
mod unix_socket;
mod unreadable;
mod upgrade;
mod vital;
mod wait_command;
mod watch_command;
mod worker_command;
mod workers;
mod writer;
