//! The body of `POST /tasks/batch`, as lines and as JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nightshift::{api::fuzzing, domain::limits::BATCH_TASKS_MAX};
use nightshift_fuzz::{check_accepted, check_problem, check_refused};
use nightshift_openapi::{ErrorCode, TaskRequest};

fuzz_target!(|body: &[u8]| {
    if let Err(error) = fuzzing::array(body) {
        check_refused(&error, body);
    }
    let lines: Vec<&[u8]> = body
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.iter().all(u8::is_ascii_whitespace))
        .collect();
    match fuzzing::lines(body) {
        Ok(tasks) => accepted(tasks, &lines),
        Err(error) => {
            let problem = check_problem(&error);
            let pointer = problem.pointer.expect("an error of a batch says where");
            if error.code() == ErrorCode::BatchSize {
                assert!(lines.is_empty() || lines.len() > BATCH_TASKS_MAX);
                assert_eq!(pointer, "/tasks");
                return;
            }
            // The line that the pointer names is the one that is refused alone.
            let index = pointer.strip_prefix("/tasks/").expect("it is a task's");
            let index = index.split('/').next().unwrap_or_default();
            let line = lines[index.parse::<usize>().expect("it is a number")];
            let alone = fuzzing::task(line).expect_err("the line is bad");
            check_refused(&alone, line);
            assert_eq!(alone.code(), error.code());
        }
    }
});

fn accepted(tasks: Vec<TaskRequest>, lines: &[&[u8]]) {
    assert!((1..=BATCH_TASKS_MAX).contains(&tasks.len()));
    assert_eq!(tasks.len(), lines.len());
    let array = [br#"{"tasks":["#, lines.join(&b',').as_slice(), b"]}"].concat();
    assert_eq!(fuzzing::array(&array).expect("lines are an array, too"), tasks);
    for (index, (request, line)) in tasks.into_iter().zip(lines).enumerate() {
        match fuzzing::content_at(index, request.clone()) {
            Ok(content) => check_accepted(&request, &content, line),
            Err(error) => check_refused(&error, &array),
        }
    }
}
