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
import nightshift.api.LeasesApi;
import nightshift.api.TasksApi;
import nightshift.model.ErrorReport;
import nightshift.model.Executor;
import nightshift.model.ExecutorKind;
import nightshift.model.ExecutorRequest;
import nightshift.model.FinishRequest;
import nightshift.model.Lease;
import nightshift.model.LeaseRequest;
import nightshift.model.Problem;
import nightshift.model.RenewRequest;
import nightshift.model.Task;
import nightshift.model.TaskError;
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
    private final LeasesApi leases;
    private final String label = "java-" + UUID.randomUUID();

    private Story(String server, String token) {
        client.updateBaseUri(server);
        if (!token.isEmpty()) {
            client.setRequestInterceptor(
                    request -> request.setHeader("Authorization", "Bearer " + token));
        }
        tasks = new TasksApi(client);
        executors = new ExecutorsApi(client);
        leases = new LeasesApi(client);
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
                .addTaskPathsItem("clients." + label + ".*")
                .leaseSeconds(60L);
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
    }

    private void keepOut(UUID id) throws Exception {
        Story stranger = new Story(System.getenv("NIGHTSHIFT_SERVER"), "wrong");
        Problem keptOut = refused(() -> stranger.tasks.getTask(id, null), 401);
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

    private void work() throws ApiException {
        List<String> paths = new ArrayList<>();
        for (String name : List.of("silent", "broken", "endless")) {
            paths.add(create(request("clients." + label + "." + name)).getTaskPath());
        }
        LeaseRequest wanted = new LeaseRequest().workerId(label).maxTasks(3L).waitSeconds(30L);
        List<Lease> leased = leases.leaseTasks(label, wanted).getLeases();
        List<String> found = new ArrayList<>();
        leased.forEach(lease -> found.add(lease.getTask().getTaskPath()));
        check(found.equals(paths), leased);

        // What is null is left out of the request, which the service takes for null.
        Task succeeded = finish(leased.get(0), new FinishRequest().returnValue(null));
        check(succeeded.getStatus() == TaskStatus.SUCCESSFUL, succeeded);
        check(succeeded.getReturnValue() == null, succeeded);

        ErrorReport error = new ErrorReport().message("no such galaxy");
        Task failed = finish(leased.get(1), new FinishRequest().error(error));
        check(failed.getStatus() == TaskStatus.FAILED && failed.getAttempts() == 1, failed);
        List<TaskError> errors = failed.getErrors();
        check(errors.size() == 1 && errors.get(0).getMessage().equals("no such galaxy"), failed);

        Lease endless = leased.get(2);
        int asked = tasks.cancelTaskWithHttpInfo(endless.getTask().getId(), null).getStatusCode();
        check(asked == 202, asked);
        check(leases.renewLease(endless.getToken(), new RenewRequest()).getCancelRequested(), endless);
        FinishRequest stopped = new FinishRequest().cancelled(FinishRequest.CancelledEnum.TRUE);
        Task cancelled = finish(endless, stopped);
        check(cancelled.getStatus() == TaskStatus.CANCELLED, cancelled);
    }

    private Task finish(Lease lease, FinishRequest end) throws ApiException {
        Task answer = leases.finishLease(lease.getToken(), end);
        Task record = tasks.getTask(lease.getTask().getId(), null);
        check(answer.equals(record), answer);
        return record;
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
        // The first, failed, cancelled and repeated one and three leased ones came before these.
        check(pages == 4 && seen.size() == 12 && new HashSet<>(seen).size() == 12, seen);
        check(seen.subList(0, 5).equals(newestFirst), seen);
    }

    public static void main(String[] arguments) throws Exception {
        String token = System.getenv().getOrDefault("NIGHTSHIFT_TOKEN", "");
        Story story = new Story(System.getenv("NIGHTSHIFT_SERVER"), token);
        story.register();
        story.enqueueAndWait();
        story.fail();
        UUID ended = story.cancel();
        story.refuse(ended);
        // A service without tokens lets everybody in.
        if (!token.isEmpty()) {
            story.keepOut(ended);
        }
        story.repeat();
        story.work();
        story.readPages();
        System.out.println("java: the story is told");
    }
}
