//! Random sequences of what may happen to tasks, against a model that is small enough to be
//! believed. The same sequences run on both engines.

use std::{collections::BTreeMap, time::Duration};

use nightshift::clock::ManualClock;
use nightshift_client::{
    EnqueueOptions,
    types::{
        Backoff, ErrorCode, ErrorReport, FinishRequest, RenewRequest, TaskRequest, TaskStatus,
    },
};
use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use uuid::Uuid;

use crate::support::app::{Builder, TestApp, Worker, value};

const LEASE: u64 = 10;
const BACKOFF: u64 = 20;
const ATTEMPTS_MAX: u32 = 2;
const QUEUES: [&str; 2] = ["a", "b"];

/// What somebody does, or time.
#[derive(Clone, Debug)]
enum Step {
    Enqueue {
        priority: i64,
        queue: usize,
        later: bool,
    },
    Lease {
        count: i64,
        queue: Option<usize>,
    },
    /// The end of the n-th lease that was ever given, which may be over by now.
    Finish {
        lease: usize,
        succeeds: bool,
    },
    Renew {
        lease: usize,
    },
    Release {
        lease: usize,
    },
    Cancel {
        task: usize,
    },
    Retry {
        task: usize,
    },
    Pause {
        queue: usize,
        paused: bool,
    },
    Wait {
        seconds: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (-1..=1_i64, 0..2_usize, prop::bool::weighted(0.2))
            .prop_map(|(priority, queue, later)| Step::Enqueue { priority, queue, later }),
        5 => (1..4_i64, prop::option::weighted(0.3, 0..2_usize))
            .prop_map(|(count, queue)| Step::Lease { count, queue }),
        5 => (any::<usize>(), any::<bool>())
            .prop_map(|(lease, succeeds)| Step::Finish { lease, succeeds }),
        2 => any::<usize>().prop_map(|lease| Step::Renew { lease }),
        1 => any::<usize>().prop_map(|lease| Step::Release { lease }),
        2 => any::<usize>().prop_map(|task| Step::Cancel { task }),
        1 => any::<usize>().prop_map(|task| Step::Retry { task }),
        1 => (0..2_usize, any::<bool>()).prop_map(|(queue, paused)| Step::Pause { queue, paused }),
        3 => (1..25_u64).prop_map(|seconds| Step::Wait { seconds }),
    ]
}

/// A task as the model has it.
#[derive(Clone, Debug)]
struct Model {
    priority: i64,
    queue: usize,
    due: u64,
    status: TaskStatus,
    attempts: u32,
    attempts_before: u32,
    errors: usize,
    /// Which lease it runs under, and until when.
    lease: Option<(usize, u64)>,
    /// Until when it may go on although somebody cancelled it.
    stopping: Option<u64>,
}

/// The whole: what ought to be there.
#[derive(Debug, Default)]
struct World {
    now: u64,
    tasks: Vec<Model>,
    /// Task of each lease that was ever given.
    leases: Vec<usize>,
    paused: [bool; 2],
}

impl World {
    /// What time has done by now.
    fn sweep(&mut self) {
        for task in &mut self.tasks {
            let Some((_, until)) = task.lease else { continue };
            if until <= self.now {
                task.fail(self.now);
            }
        }
    }

    /// The tasks that may start, the first first.
    fn startable(&self, queue: Option<usize>) -> Vec<usize> {
        let mut due: Vec<usize> = (0..self.tasks.len())
            .filter(|index| {
                let task = &self.tasks[*index];
                task.status == TaskStatus::Ready
                    && task.due <= self.now
                    && !self.paused[task.queue]
                    && queue.is_none_or(|queue| queue == task.queue)
            })
            .collect();
        due.sort_by_key(|index| {
            let task = &self.tasks[*index];
            (-task.priority, task.due, *index)
        });
        due
    }

    /// The task whose lease this still is.
    fn held(&mut self, lease: usize) -> Option<&mut Model> {
        let task = &mut self.tasks[self.leases[lease]];
        task.lease.is_some_and(|(held, _)| held == lease).then_some(task)
    }
}

impl Model {
    fn end(&mut self, status: TaskStatus) {
        self.status = status;
        self.lease = None;
    }

    fn fail(&mut self, now: u64) {
        self.errors += 1;
        if self.stopping.is_some() {
            return self.end(TaskStatus::Cancelled);
        }
        if self.attempts - self.attempts_before >= ATTEMPTS_MAX {
            return self.end(TaskStatus::Failed);
        }
        self.end(TaskStatus::Ready);
        self.due = now + BACKOFF;
    }
}

/// The real service, and the names that the model's numbers have there.
struct Real {
    app: TestApp,
    clock: ManualClock,
    worker: Worker,
    ids: Vec<Uuid>,
    tokens: Vec<String>,
}

impl Real {
    async fn step(&mut self, world: &mut World, step: &Step) {
        match *step {
            Step::Enqueue { priority, queue, later } => {
                self.enqueue(world, priority, queue, later).await;
            }
            Step::Lease { count, queue } => self.lease(world, count, queue).await,
            Step::Finish { lease, succeeds } if !world.leases.is_empty() => {
                self.finish(world, lease % world.leases.len(), succeeds).await;
            }
            Step::Renew { lease } if !world.leases.is_empty() => {
                self.renew(world, lease % world.leases.len()).await;
            }
            Step::Release { lease } if !world.leases.is_empty() => {
                self.release(world, lease % world.leases.len()).await;
            }
            Step::Cancel { task } if !world.tasks.is_empty() => {
                self.cancel(world, task % world.tasks.len()).await;
            }
            Step::Retry { task } if !world.tasks.is_empty() => {
                self.retry(world, task % world.tasks.len()).await;
            }
            Step::Pause { queue, paused } => {
                world.paused[queue] = paused;
                let change = nightshift_client::types::QueueChange {
                    paused: Some(paused),
                    ..Default::default()
                };
                self.app.client.update_queue(QUEUES[queue], &change).await.unwrap();
            }
            Step::Wait { seconds } => {
                world.now += seconds;
                world.sweep();
                self.clock.advance(Duration::from_secs(seconds));
            }
            // There is nothing yet that it could be about.
            Step::Finish { .. }
            | Step::Renew { .. }
            | Step::Release { .. }
            | Step::Cancel { .. }
            | Step::Retry { .. } => {}
        }
        // The reaper has been woken; this waits until what it does is done.
        self.app.run_sweeps().await;
        self.app.run_sweeps().await;
    }

    async fn enqueue(&mut self, world: &mut World, priority: i64, queue: usize, later: bool) {
        let due = world.now + if later { 15 } else { 0 };
        let start: jiff::Timestamp = "2026-11-25T12:00:00Z".parse().unwrap();
        let run_after = later.then(|| (start + Duration::from_secs(due)).into());
        let backoff = Backoff {
            initial_seconds: Some(20.0),
            factor: Some(1.0),
            max_seconds: Some(20.0),
            jitter: Some(0.0),
        };
        let request = TaskRequest {
            priority: Some(priority),
            queue_name: Some(QUEUES[queue].to_owned()),
            max_attempts: Some(i64::from(ATTEMPTS_MAX)),
            backoff: Some(backoff),
            run_after,
            ..TaskRequest::new("a")
        };
        let options = EnqueueOptions::default();
        let task = self.app.client.create_task(&request, &options).await.unwrap().task;
        self.ids.push(task.id);
        world.tasks.push(Model {
            priority,
            queue,
            due,
            status: TaskStatus::Ready,
            attempts: 0,
            attempts_before: 0,
            errors: 0,
            lease: None,
            stopping: None,
        });
    }

    async fn lease(&mut self, world: &mut World, count: i64, queue: Option<usize>) {
        let leases = self
            .worker
            .ask(|request| {
                request.max_tasks = Some(count);
                request.queue_names = queue.map(|queue| vec![QUEUES[queue].to_owned()]);
            })
            .await;
        let mut expected = world.startable(queue);
        expected.truncate(usize::try_from(count).unwrap());
        let ids: Vec<Uuid> = expected.iter().map(|index| self.ids[*index]).collect();
        assert_eq!(leases.iter().map(|lease| lease.task.id).collect::<Vec<_>>(), ids);
        for (index, lease) in expected.into_iter().zip(leases) {
            let task = &mut world.tasks[index];
            task.status = TaskStatus::Running;
            task.attempts += 1;
            task.stopping = None;
            task.lease = Some((world.leases.len(), world.now + LEASE));
            assert_eq!(lease.attempt, task.attempts);
            world.leases.push(index);
            self.tokens.push(lease.token);
        }
    }

    async fn finish(&mut self, world: &mut World, lease: usize, succeeds: bool) {
        let failure =
            || FinishRequest { error: Some(ErrorReport::default()), ..FinishRequest::default() };
        let end = if succeeds { value("1") } else { failure() };
        let answer = self.app.client.finish_lease(&self.tokens[lease], &end).await;
        let now = world.now;
        let Some(task) = world.held(lease) else {
            return assert_lost(answer);
        };
        if !succeeds {
            task.fail(now);
        } else if task.stopping.is_some() {
            task.errors += 1;
            task.end(TaskStatus::Cancelled);
        } else {
            task.end(TaskStatus::Successful);
        }
        assert_eq!(answer.unwrap().status, task.status);
    }

    async fn renew(&mut self, world: &mut World, lease: usize) {
        let answer =
            self.app.client.renew_lease(&self.tokens[lease], &RenewRequest::default()).await;
        let now = world.now;
        let Some(task) = world.held(lease) else {
            return assert_lost(answer);
        };
        let until = task.stopping.unwrap_or(u64::MAX).min(now + LEASE);
        task.lease = Some((lease, until));
        assert_eq!(answer.unwrap().cancel_requested, task.stopping.is_some());
    }

    async fn release(&mut self, world: &mut World, lease: usize) {
        let answer = self.app.client.release_lease(&self.tokens[lease]).await;
        let Some(task) = world.held(lease) else {
            return assert_lost(answer);
        };
        answer.unwrap();
        if task.stopping.is_some() {
            task.errors += 1;
            task.end(TaskStatus::Cancelled);
        } else {
            task.attempts -= 1;
            task.end(TaskStatus::Ready);
        }
    }

    async fn cancel(&mut self, world: &mut World, index: usize) {
        let answer = self.app.client.cancel_task(self.ids[index], false).await;
        let now = world.now;
        let task = &mut world.tasks[index];
        match task.status {
            TaskStatus::Ready => {
                task.errors += 1;
                task.end(TaskStatus::Cancelled);
            }
            TaskStatus::Running if task.stopping.is_none() => {
                task.stopping = Some(now + LEASE);
                task.lease = task.lease.map(|(lease, until)| (lease, until.min(now + LEASE)));
            }
            TaskStatus::Running | TaskStatus::Cancelled => {}
            TaskStatus::Successful | TaskStatus::Failed => {
                let refused = answer.unwrap_err();
                assert_eq!(refused.code(), Some(ErrorCode::TaskFinished));
                return;
            }
        }
        assert_eq!(answer.unwrap().status, task.status);
    }

    async fn retry(&mut self, world: &mut World, index: usize) {
        let answer = self.app.client.retry_task(self.ids[index]).await;
        let now = world.now;
        let task = &mut world.tasks[index];
        match task.status {
            TaskStatus::Failed | TaskStatus::Cancelled => {
                answer.unwrap();
                task.status = TaskStatus::Ready;
                task.due = now;
                task.attempts_before = task.attempts;
                task.stopping = None;
            }
            TaskStatus::Ready | TaskStatus::Running | TaskStatus::Successful => {
                let refused = answer.unwrap_err();
                assert_eq!(refused.code(), Some(ErrorCode::TaskNotRetryable));
            }
        }
    }

    /// Everything is as the model has it.
    async fn compare(&self, world: &World) {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for (id, model) in self.ids.iter().zip(&world.tasks) {
            let task = self.app.task(*id).await;
            let real = (task.status, task.attempts, task.errors.len());
            assert_eq!(real, (model.status, model.attempts, model.errors), "{model:?}");
            assert_eq!(task.worker_ids.len(), usize::try_from(task.attempts).unwrap());
            *counts.entry(task.status.to_string()).or_default() += 1;
        }
        let stats = self.app.client.get_stats().await.unwrap();
        let count = |status: &str| counts.get(status).copied().unwrap_or(0);
        assert_eq!(stats.due + stats.scheduled, count("READY"));
        assert_eq!(stats.running, count("RUNNING"));
        assert_eq!(stats.ended.successful, count("SUCCESSFUL"));
        assert_eq!(stats.ended.failed, count("FAILED"));
        assert_eq!(stats.ended.cancelled, count("CANCELLED"));
    }
}

fn assert_lost<T: std::fmt::Debug>(answer: nightshift_client::Result<T>) {
    assert_eq!(answer.unwrap_err().code(), Some(ErrorCode::LeaseLost));
}

async fn run(builder: Builder, steps: &[Step]) {
    let (builder, clock) = builder.with_manual_clock();
    let app = builder.start();
    let lease = i64::try_from(LEASE).unwrap();
    let worker = app.register_workers("tom", |request| request.lease_seconds = Some(lease)).await;
    let mut real = Real { app, clock, worker, ids: Vec::new(), tokens: Vec::new() };
    let mut world = World::default();
    for step in steps {
        real.step(&mut world, step).await;
    }
    real.compare(&world).await;
}

/// Many sequences, always the same ones; a failing one is made as short as it can be.
fn sequences(cases: u32, builder: fn() -> Builder) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[25; 32]);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let ran = runner.run(&prop::collection::vec(step(), 1..60), |steps| {
        runtime.block_on(run(builder(), &steps));
        Ok(())
    });
    ran.unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn the_service_does_what_the_model_does_sqlite() {
    sequences(60, Builder::sqlite);
}

#[test]
fn the_service_does_what_the_model_does_postgres() {
    sequences(30, Builder::postgres);
}
