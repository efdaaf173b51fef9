/* The plugin: one task, astronomy.extract_sources. See ../README.md.
 *
 * plugin.h is made from the interface by wit-bindgen. Nothing here is freed: each attempt has an
 * instance of its own, which is thrown away afterwards. */

#include "catalogue.h"
#include "failure.h"
#include "fetch.h"
#include "fits.h"
#include "json.h"
#include "plugin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char TASK_PATH[] = "astronomy.extract_sources";
static const uint64_t TIMEOUT_MS = 60 * 1000;

/* Says how far the task is, and whether to go on. */
static bool go_on(double fraction, const char *doing, struct failure *failure) {
    plugin_string_t message;
    plugin_string_set(&message, doing);
    nightshift_plugin_host_progress(&fraction, &message);
    if (!nightshift_plugin_host_cancelled()) return true;
    return fail_for_now(failure, "Cancelled", "stopped before %s", doing);
}

static void log_catalogue(const struct catalogue *catalogue) {
    char line[128];
    snprintf(line, sizeof line, "background %g, rms %g, %d sources", catalogue->background_level,
             catalogue->background_rms, catalogue->sources->nobj);
    plugin_string_t message;
    plugin_string_set(&message, line);
    nightshift_plugin_host_log(NIGHTSHIFT_PLUGIN_HOST_LEVEL_INFO, &message);
}

static bool extract_sources(struct text args, struct text kwargs, struct text *result,
                            struct failure *failure) {
    struct arguments arguments;
    struct bytes file;
    struct image image;
    struct catalogue catalogue;
    if (!read_arguments(args, kwargs, &arguments, failure)) return false;
    if (!go_on(0.0, "fetching the image", failure)) return false;
    if (!fetch(arguments.image, &file, failure)) return false;
    if (!read_fits(file, &image, failure)) return false;
    if (!go_on(0.3, "measuring the background", failure)) return false;
    if (!subtract_background(&arguments.options, &image, &catalogue, failure)) return false;
    if (!go_on(0.5, "extracting sources", failure)) return false;
    if (!extract(&arguments.options, &image, &catalogue, failure)) return false;
    if (!go_on(0.9, "writing the catalogue", failure)) return false;
    log_catalogue(&catalogue);
    return write_result(&arguments, &image, &catalogue, result, failure);
}

static struct text as_text(const plugin_string_t *string) {
    return (struct text){(const char *)string->ptr, string->len};
}

static bool run_task(struct text path, struct text args, struct text kwargs,
                     plugin_string_t *result, struct failure *failure) {
    if (path.length != strlen(TASK_PATH) || memcmp(path.start, TASK_PATH, path.length) != 0)
        return fail(failure, "LookupError", "this plugin has no task %.*s", (int)path.length,
                    path.start);
    struct text json;
    if (!extract_sources(args, kwargs, &json, failure)) return false;
    *result = (plugin_string_t){(uint8_t *)json.start, json.length};
    return true;
}

/* What the plugin exports. The texts that it returns are freed by the generated code. */

void exports_nightshift_plugin_tasks_describe(
    exports_nightshift_plugin_tasks_list_task_info_t *tasks) {
    tasks->len = 1;
    tasks->ptr = calloc(1, sizeof *tasks->ptr);
    exports_nightshift_plugin_tasks_task_info_t *task = tasks->ptr;
    plugin_string_dup(&task->path, TASK_PATH);
    plugin_string_dup(&task->summary, "Find the sources of a FITS image, with SEP");
    task->defaults.timeout_ms = (plugin_option_u64_t){.is_some = true, .val = TIMEOUT_MS};
}

bool exports_nightshift_plugin_tasks_run(exports_nightshift_plugin_tasks_task_context_t *context,
                                         plugin_string_t *task_path, plugin_string_t *args,
                                         plugin_string_t *kwargs, plugin_string_t *result,
                                         exports_nightshift_plugin_tasks_task_error_t *error) {
    (void)context;
    struct failure failure;
    if (run_task(as_text(task_path), as_text(args), as_text(kwargs), result, &failure)) return true;
    *error = (exports_nightshift_plugin_tasks_task_error_t){.retryable = failure.retryable};
    plugin_string_dup(&error->class_, failure.class);
    plugin_string_dup(&error->message, failure.message);
    return false;
}
