//! Where clients say they have come to: cursors of lists, and ids of events.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nightshift::{
    api::fuzzing,
    domain::event::{EventPlace, TaskPlace},
};
use nightshift_fuzz::check_problem;
use nightshift_openapi::ErrorCode;

fuzz_target!(|input: (i64, u64, u32, &str)| {
    let (number, steps, small, text) = input;
    // What the service said comes back as it was meant.
    assert_eq!(fuzzing::place_of_cursor(&fuzzing::cursor_of_place(number)).unwrap(), number);
    assert_eq!(fuzzing::name_of_cursor(&fuzzing::cursor_of_name(text)).unwrap(), text.as_bytes());
    let counted = number & i64::MAX;
    let place = EventPlace { seq: counted, index: small };
    assert_eq!(fuzzing::event_place(&fuzzing::event_id(place)).unwrap(), place);
    let place = TaskPlace { steps, log: counted, progress: small };
    assert_eq!(fuzzing::task_place(&fuzzing::task_event_id(place)).unwrap(), place);

    // What it did not say is refused, or is a place that it could have named.
    match fuzzing::place_of_cursor(text) {
        Ok(place) => assert_eq!(fuzzing::cursor_of_place(place), text),
        Err(error) => check_refused(&error),
    }
    match fuzzing::name_of_cursor(text) {
        // The place is where a name would stand, so it needs not be one.
        Ok(place) => {
            if let Ok(name) = std::str::from_utf8(&place) {
                assert_eq!(fuzzing::cursor_of_name(name), text);
            }
        }
        Err(error) => check_refused(&error),
    }
    match fuzzing::event_place(text) {
        Ok(place) => {
            assert!(place.seq >= 0);
            assert_eq!(fuzzing::event_place(&fuzzing::event_id(place)).unwrap(), place);
        }
        Err(error) => check_refused(&error),
    }
    match fuzzing::task_place(text) {
        Ok(place) => {
            assert!(place.log >= 0);
            assert_eq!(fuzzing::task_place(&fuzzing::task_event_id(place)).unwrap(), place);
        }
        Err(error) => check_refused(&error),
    }
});

fn check_refused(error: &nightshift::api::Error) {
    assert_eq!(error.code(), ErrorCode::InvalidCursor);
    assert_eq!(check_problem(error).pointer, None);
}
