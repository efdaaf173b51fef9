#include "failure.h"

#include <stdarg.h>
#include <stdio.h>

static void note(struct failure *failure, const char *class, const char *format, va_list values) {
    failure->class = class;
    vsnprintf(failure->message, sizeof failure->message, format, values);
}

bool fail(struct failure *failure, const char *class, const char *format, ...) {
    va_list values;
    va_start(values, format);
    note(failure, class, format, values);
    va_end(values);
    failure->retryable = false;
    return false;
}

bool fail_for_now(struct failure *failure, const char *class, const char *format, ...) {
    va_list values;
    va_start(values, format);
    note(failure, class, format, values);
    va_end(values);
    failure->retryable = true;
    return false;
}
