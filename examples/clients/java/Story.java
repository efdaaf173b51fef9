// What one does with Nightshift, by the client that openapi-generator makes.

import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import nightshift.ApiClient;
import nightshift.ApiException;
import nightshift.ApiResponse;
import nightshift.api.ExecutorsApi;
import nightshift.api.TasksApi;
import nightshift.model.Executor;
import nightshift.model.ExecutorKind;
import nightshift.model.ExecutorRequest;
import nightshift.model.Problem;
import nightshift.model.Task;
import nightshift.model.TaskErrorKind;
import nightshift.model.TaskList;
import nightshift.model.TaskRequest;
import nightshift.model.TaskResult;
import nightshift.model.TaskStatus;
import nightshift.model.TaskSummary;
import nightshift.model.WorkerExecutorRequest;

final class Story {
    private final ApiClient client = new ApiClient();
    private final TasksApi tasks;
    private final ExecutorsApi executors;
    private final String label = "java-" + UUID.randomUUID();

    private Story(String server, String token) {
        client.updateBaseUri(server);
        client.setRequestInterceptor(
                request -> request.setHeader("Authorization", "Bearer " + token));
        tasks = new TasksApi(client);
        executors = new ExecutorsApi(client);
    }

    private interface Call {
        Object make() throws ApiException;
    }

    private static void check(boolean holds, Object otherwise) {
        if (!holds) {
            throw new AssertionError(otherwise);
        }
    }

    private Problem refused(Call call, int status) throws Exception {
        try {
            throw new AssertionError("not refused: " + call.make());
        } catch (ApiException refused) {
            check(refused.getCode() == status, refused);
            return client.getObjectMapper().readValue(refused.getResponseBody(), Problem.class);
        }
    }

    private TaskRequest request(String path, Object... args) {
        return new TaskRequest()
                .taskPath(path)
                .args(List.of(args))
                .kwargs(Map.of("language", "java"))
                .labels(Map.of("story", label))
                .maxAttempts(1L);
    }

    private Task create(TaskRequest request) throws ApiException {
        return tasks.createTask(request, null, null, null);
    }

    private void register() throws ApiException {
        WorkerExecutorRequest request = new WorkerExecutorRequest()
                .kind(WorkerExecutorRequest.KindEnum.WORKER)
                .addTaskPathsItem("clients.java.*")
                .leaseSeconds(20L);
        Executor registered = executors.putExecutor(label, new ExecutorRequest(request));
        check(registered.equals(executors.getExecutor(label)), registered);
        check(registered.getKind() == ExecutorKind.WORKER, registered);
        check(registered.getHold() == null, registered);
    }

    private void enqueueAndWait() throws ApiException {
        Task task = create(request("clients.count", "a galaxy", "far away"));
        check(task.getStatus() == TaskStatus.READY, task);
        TaskResult result = tasks.getTaskResult(task.getId(), 30L);
        check(result.getStatus() == TaskStatus.SUCCESSFUL, result);
        check(Map.of("words", 4, "language", "java").equals(result.getReturnValue()), result);
        Task record = tasks.getTask(task.getId(), null);
        check(record.getAttempts() == 1 && record.getWorkerIds().size() == 1, record);
        check(!record.getStartedAt().isBefore(record.getEnqueuedAt()), record);
    }

    private void fail() throws ApiException {
        ApiResponse<Task> answer =
                tasks.createTaskWithHttpInfo(request("clients.unknown"), "wait=30", null, null);
        Task task = answer.getData();
        check(task.getStatus() == TaskStatus.FAILED, task);
        List<String> location = List.of("/tasks/" + task.getId());
        check(location.equals(answer.getHeaders().get("location")), answer.getHeaders());
        check(task.getErrors().size() == 1, task);
        check(task.getErrors().get(0).getKind() == TaskErrorKind.EXCEPTION, task);
        check(task.getErrors().get(0).getMessage().contains("exit status 1"), task);
        check(tasks.getTaskLogs(task.getId(), null, null).getDropped() == 0, task);
    }

    private UUID cancel() throws ApiException {
        OffsetDateTime later =
                OffsetDateTime.now(ZoneOffset.UTC).plusDays(1).truncatedTo(ChronoUnit.MICROS);
        Task task = create(request("clients.count").runAfter(later));
        check(task.getRunAfter().isEqual(later), task);
        ApiResponse<Task> cancelled = tasks.cancelTaskWithHttpInfo(task.getId(), null);
        check(cancelled.getStatusCode() == 200, cancelled);
        check(cancelled.getData().getStatus() == TaskStatus.CANCELLED, cancelled.getData());
        return task.getId();
    }

    private void refuse(UUID ended) throws Exception {
        check(tasks.cancelTask(ended, null).getStatus() == TaskStatus.CANCELLED, ended);
        Problem unknown = refused(() -> tasks.getTask(UUID.randomUUID(), null), 404);
        check(unknown.getCode().equals("task_not_found"), unknown);
        Problem refused = refused(() -> create(request("clients.count").priority(101L)), 422);
        check(refused.getCode().equals("invalid_field"), refused);
        check(refused.getPointer().equals("/priority"), refused);
        Story stranger = new Story(System.getenv("NIGHTSHIFT_SERVER"), "wrong");
        Problem keptOut = refused(() -> stranger.tasks.getTask(ended, null), 401);
        check(keptOut.getCode().equals("unauthorized"), keptOut);
    }

    private void repeat() throws Exception {
        TaskRequest once = request("clients.count", "once");
        ApiResponse<Task> first = tasks.createTaskWithHttpInfo(once, null, label, null);
        ApiResponse<Task> second = tasks.createTaskWithHttpInfo(once, null, label, null);
        check(first.getStatusCode() == 201 && second.getStatusCode() == 200, second);
        check(first.getData().getId().equals(second.getData().getId()), second.getData());
        TaskRequest twice = request("clients.count", "twice");
        Problem other = refused(() -> tasks.createTask(twice, null, label, null), 422);
        check(other.getCode().equals("idempotency_mismatch"), other);
    }

    private void readPages() throws ApiException {
        List<UUID> newestFirst = new ArrayList<>();
        for (int count = 0; count < 5; count++) {
            newestFirst.add(0, create(request("clients.count")).getId());
        }
        List<UUID> seen = new ArrayList<>();
        int pages = 0;
        String cursor = null;
        do {
            TaskList page = tasks.listTasks(
                    null, null, null, null, "story=" + label, null, null, 3, cursor);
            page.getItems().stream().map(TaskSummary::getId).forEach(seen::add);
            pages++;
            cursor = page.getNextCursor();
        } while (cursor != null);
        // The first, the failed, the cancelled and the repeated one came before these.
        check(pages == 3 && seen.size() == 9 && new HashSet<>(seen).size() == 9, seen);
        check(seen.subList(0, 5).equals(newestFirst), seen);
    }

    public static void main(String[] arguments) throws Exception {
        Story story = new Story(System.getenv("NIGHTSHIFT_SERVER"), System.getenv("NIGHTSHIFT_TOKEN"));
        story.register();
        story.enqueueAndWait();
        story.fail();
        story.refuse(story.cancel());
        story.repeat();
        story.readPages();
        System.out.println("java: the story is told");
    }
}
