//! What commands have started: finds it, stops it, and buries it.
//!
//! A command may leave processes behind, also such that have left its process group (`setsid`).
//! This process makes itself the *subreaper* of them all: a process that loses its parent
//! becomes its child, as it would be anyway where this is process 1. So all are found, and none
//! stays a zombie.
//! Whose they are, a mark in their environment says, which children inherit.

use std::{
    collections::HashMap,
    ffi::OsStr,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use procfs::process::{Process, Stat, all_processes};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, getpid, kill_process_group, pidfd_open,
    pidfd_send_signal, set_child_subreaper, waitpid,
};
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
    sync::Notify,
    task::spawn_blocking,
    time::sleep,
};

/// Marks all that belongs to one run of a command.
const MARK: &str = "NIGHTSHIFT_COMMAND";
/// The shortest time between two looks at all processes, and how much of the time they may take.
const LOOK_PERIOD: Duration = Duration::from_millis(100);
const LOOKS_SHARE: u32 = 20;
/// Looks for what is left at the end, while each finds something.
const LAST_LOOKS_MAX: u32 = 20;

/// All that the commands of this worker have started.
pub(super) struct Family {
    /// Begins each mark: there may be other workers.
    name: String,
    /// A process here is of a command. Process 1 also gets what somebody started in its container
    /// by hand, and a script may have started something before it became the worker (`exec`).
    alone: bool,
    commands: Mutex<Commands>,
    /// Somebody has to be stopped.
    changed: Notify,
}

#[derive(Default)]
struct Commands {
    started: u64,
    by_process: HashMap<i32, Running>,
}

struct Running {
    mark: String,
    /// When it began, as the kernel counts.
    began: u64,
    /// It has ended, and the processes that it has left are to end.
    over: bool,
}

/// One run of a command, with all that it has started.
#[derive(Clone)]
pub(super) struct Kin {
    family: Arc<Family>,
    process: Pid,
    mark: String,
}

impl Family {
    pub(super) fn new(name: String) -> Arc<Self> {
        if let Err(error) = set_child_subreaper(Some(getpid())) {
            tracing::warn!(%error, "what hides from its command's group may outlive its task");
        }
        let tree = Tree::read();
        let alone = tree.root != 1 && tree.descendants().next().is_none();
        Arc::new(Self { name, alone, commands: Mutex::default(), changed: Notify::new() })
    }

    /// Starts a command in a process group of its own.
    pub(super) fn start(self: &Arc<Self>, command: &mut Command) -> io::Result<(Child, Kin)> {
        // Held until the process is known, so that nobody buries it in between: the code that
        // started it waits for its status.
        let mut commands = self.commands();
        commands.started += 1;
        let mark = format!("{}.{}", self.name, commands.started);
        let child = command.env(MARK, &mark).process_group(0).spawn()?;
        let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let process = id.ok_or_else(|| io::Error::other("it ended at once"))?;
        let began = stat(process.as_raw_pid()).map_or(0, |stat| stat.starttime);
        let running = Running { mark: mark.clone(), began, over: false };
        commands.by_process.insert(process.as_raw_pid(), running);
        Ok((child, Kin { family: Arc::clone(self), process, mark }))
    }

    /// Stops what commands have left, and buries it. Never returns.
    pub(super) async fn look_after(self: Arc<Self>) -> io::Result<std::convert::Infallible> {
        let mut children = signal(SignalKind::child())?;
        loop {
            tokio::select! {
                _ = children.recv() => {}
                () = self.changed.notified() => {}
            }
            let begun = Instant::now();
            self.look().await;
            // Each end of a command is a signal, and each look reads all of /proc.
            sleep(LOOK_PERIOD.max(begun.elapsed() * LOOKS_SHARE)).await;
        }
    }

    /// When no command runs any more: nothing is to be left.
    pub(super) async fn end(self: Arc<Self>) {
        for _ in 0..LAST_LOOKS_MAX {
            if self.look().await == 0 {
                return;
            }
            sleep(LOOK_PERIOD / 10).await;
        }
    }

    /// Says how many had to be stopped.
    async fn look(self: &Arc<Self>) -> usize {
        let this = Arc::clone(self);
        // A thread that panicked has said so.
        spawn_blocking(move || this.stop_and_bury()).await.unwrap_or(0)
    }

    fn stop_and_bury(&self) -> usize {
        let commands = self.commands();
        let tree = Tree::read();
        let mut stopped = 0;
        for process in tree.descendants() {
            if self.is_left(process, &tree, &commands) {
                stopped += usize::from(process.state != 'Z');
                send(process, Signal::KILL);
            }
            let is_command = commands.by_process.contains_key(&process.pid);
            if tree.is_child(process) && !is_command && process.state == 'Z' {
                bury(process);
            }
        }
        stopped
    }

    /// Whether it belongs to no command that runs.
    fn is_left(&self, process: &Stat, tree: &Tree, commands: &Commands) -> bool {
        let mut running = commands.by_process.values().filter(|command| !command.over);
        if let Some(owner) = self.owner(process, tree, commands) {
            return !running.any(|command| command.mark == owner);
        }
        // It has hidden its mark. It is not of a command that began after it.
        let began = tree.top(process).starttime;
        self.alone && !running.any(|command| command.began <= began)
    }

    /// The mark of the command that it belongs to, if that can be told.
    fn owner(&self, process: &Stat, tree: &Tree, commands: &Commands) -> Option<String> {
        let top = tree.top(process);
        let command = commands.by_process.get(&top.pid).map(|command| command.mark.clone());
        self.mark(process).or(command).or_else(|| self.mark(top))
    }

    fn mark(&self, process: &Stat) -> Option<String> {
        let environment = Process::new(process.pid).and_then(|it| it.environ()).ok()?;
        let mark = environment.get(OsStr::new(MARK))?.to_str()?;
        let number = mark.strip_prefix(&self.name)?;
        number.starts_with('.').then(|| mark.to_owned())
    }

    fn commands(&self) -> MutexGuard<'_, Commands> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kin {
    /// Sends a signal to the command and to all that it has started.
    pub(super) fn send(&self, signal: Signal) {
        // Where there is nobody left, there is nothing to stop.
        kill_process_group(self.process, signal).ok();
        let commands = self.family.commands();
        let tree = Tree::read();
        let group = self.process.as_raw_pid();
        for process in tree.descendants().filter(|process| process.pgrp != group) {
            let owner = self.family.owner(process, &tree, &commands);
            if owner.as_deref() == Some(&self.mark) {
                send(process, signal);
            }
        }
    }

    /// The command has ended: the processes that it has left are to end, too.
    pub(super) fn is_over(&self) {
        kill_process_group(self.process, Signal::KILL).ok();
        if let Some(command) = self.family.commands().by_process.get_mut(&self.id()) {
            command.over = true;
        }
        self.family.changed.notify_one();
    }

    /// Its status is not waited for any more.
    pub(super) fn forget(&self) {
        self.is_over();
        self.family.commands().by_process.remove(&self.id());
    }

    fn id(&self) -> i32 {
        self.process.as_raw_pid()
    }
}

/// Who is whose child, at one moment.
struct Tree {
    root: i32,
    processes: HashMap<i32, Stat>,
}

impl Tree {
    /// Without those that are gone by the time they are looked at; empty without /proc.
    fn read() -> Self {
        let processes = all_processes().into_iter().flatten().flatten();
        let processes = processes.filter_map(|process| process.stat().ok());
        let processes = processes.map(|stat| (stat.pid, stat)).collect();
        Self { root: getpid().as_raw_pid(), processes }
    }

    fn descendants(&self) -> impl Iterator<Item = &Stat> {
        self.processes.values().filter(|process| self.is_child(self.top(process)))
    }

    fn is_child(&self, process: &Stat) -> bool {
        process.ppid == self.root && process.pid != self.root
    }

    /// The ancestor that is a child of this process, if there is one; else some other one.
    fn top<'a>(&'a self, process: &'a Stat) -> &'a Stat {
        let mut top = process;
        // Processes that were read one after the other may show a circle.
        for _ in 0..self.processes.len() {
            match self.processes.get(&top.ppid) {
                Some(parent) if !self.is_child(top) => top = parent,
                _ => break,
            }
        }
        top
    }
}

fn stat(process: i32) -> procfs::ProcResult<Stat> {
    Process::new(process)?.stat()
}

/// By a descriptor, since its number may be another's by now.
fn send(process: &Stat, signal: Signal) {
    let Some(pid) = Pid::from_raw(process.pid) else { return };
    let Ok(descriptor) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    if stat(process.pid).is_ok_and(|now| now.starttime == process.starttime) {
        pidfd_send_signal(descriptor, signal).ok();
    }
}

/// Its number stays its own until this.
fn bury(process: &Stat) {
    if let Some(pid) = Pid::from_raw(process.pid) {
        waitpid(Some(pid), WaitOptions::NOHANG).ok();
    }
}
