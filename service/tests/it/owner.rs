//! Files and tables that commands make belong to the service's user and role.

use std::{
    fs,
    os::{
        fd::AsRawFd,
        unix::fs::{MetadataExt, PermissionsExt, chown},
    },
    path::Path,
    process::Output,
};

use tokio::process::Command;

use crate::support::{
    database::{Database, execute},
    process::binary,
    soon,
};

/// Some other user, who need not have a name.
const SOMEBODY: u32 = 12_345;

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

async fn run(arguments: &[&str]) -> Output {
    soon("the end of a command", binary().args(arguments).output()).await.unwrap()
}

/// The same as somebody else, who need not be able to reach the folder where the binary is.
async fn run_as_somebody(arguments: &[&str]) -> Output {
    let program = fs::File::open(env!("CARGO_BIN_EXE_nightshift")).unwrap();
    let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
    command.args(arguments).uid(SOMEBODY).gid(SOMEBODY).kill_on_drop(true);
    soon("the end of a command", command.output()).await.unwrap()
}

async fn succeeds(arguments: &[&str]) {
    let output = run(arguments).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "", "{arguments:?}");
}

fn owners(folder: &Path) -> Vec<(String, u32)> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().uid()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_root_makes_belongs_to_the_owner_of_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let owner = if is_root() {
        chown(folder.path(), Some(SOMEBODY), Some(SOMEBODY)).unwrap();
        SOMEBODY
    } else {
        folder.path().metadata().unwrap().uid()
    };
    let place = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let url = |name: &str| format!("sqlite://{}", place(name));
    succeeds(&["migrate", "--database-url", &url("a.db")]).await;
    succeeds(&["backup", "--database-url", &url("a.db"), &place("backup.db")]).await;
    succeeds(&["copy", "--from", &url("a.db"), "--to", &url("b.db")]).await;
    let owners = owners(folder.path());
    for name in ["a.db", "a.db.lock", "b.db", "b.db.lock", "backup.db"] {
        assert!(owners.iter().any(|(file, _)| file == name), "{name} {owners:?}");
    }
    for (name, of) in &owners {
        assert_eq!(*of, owner, "{name}");
        let mode = folder.path().join(name).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name} is for its owner alone");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_root_is_told_that_a_service_may_not_be_able_to_use_it() {
    if !is_root() {
        // Only root can come as somebody else, and the rule for root has a test of its own.
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let url = format!("sqlite://{}", folder.path().join("a.db").display());
    let output = run_as_somebody(&["migrate", "--database-url", &url]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    let expected = format!(
        "warning: {} belongs to root, and what is made there now to user {SOMEBODY}: ",
        folder.path().display()
    );
    assert!(said.starts_with(&expected), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_role_of_postgres_is_told_before() {
    let database = Database::postgres();
    let url = database.url();
    let role = format!("owner_{}", nightshift::entropy::Entropy::from_system().uuid().simple());
    let name = url.rsplit_once('/').unwrap().1;
    execute(&url, &format!("CREATE ROLE {role}; ALTER DATABASE {name} OWNER TO {role}"));
    let migrate = ["migrate", "--database-url", &url];
    let output = run(&migrate).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.starts_with(&format!("warning: the database belongs to the role {role}, ")),
        "{said}"
    );

    execute(&url, &format!("ALTER TABLE tasks OWNER TO {role}"));
    let output = run(&migrate).await;
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with(&format!("error: the tables belong to the role {role}, ")), "{said}");
    execute(
        &url,
        &format!(
            "ALTER TABLE tasks OWNER TO CURRENT_USER; ALTER DATABASE {name} OWNER TO CURRENT_USER; \
             DROP ROLE {role}"
        ),
    );
    assert_eq!(run(&migrate).await.status.code(), Some(0));
}
