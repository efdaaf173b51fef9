/* Why a step did not succeed. It becomes the task's error. */
#pragma once

#include <stdbool.h>

struct failure {
    /* What kind of error, in the words that Python has for it where it has any. */
    const char *class;
    /* Whether another attempt may help. */
    bool retryable;
    char message[512];
};

/* Notes why, and returns false, so that a step ends with `return fail(...)`. */
bool fail(struct failure *failure, const char *class, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same where another attempt may help. */
bool fail_for_now(struct failure *failure, const char *class, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
