// What one does with Nightshift, by the client that oapi-codegen makes.
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"example.org/nightshift-story/api"
)

type story struct {
	*api.ClientWithResponses
	label string
}

// A client's option: the token of each request, if there is one.
func showing(token string) api.ClientOption {
	return api.WithRequestEditorFn(func(_ context.Context, request *http.Request) error {
		if token != "" {
			request.Header.Set("Authorization", "Bearer "+token)
		}
		return nil
	})
}

func check(holds bool, format string, values ...any) {
	if !holds {
		log.Panicf(format, values...)
	}
}

func must[T any](value T, err error) T {
	check(err == nil, "%v", err)
	return value
}

func to[T any](value T) *T { return &value }

func (s story) request(path string, args ...any) api.TaskRequest {
	return api.TaskRequest{
		TaskPath:    path,
		Args:        to(append([]any{}, args...)),
		Kwargs:      &api.Kwargs{"language": "go"},
		Labels:      &api.Labels{"story": s.label},
		MaxAttempts: to(int64(1)),
	}
}

func (s story) create(ctx context.Context, request api.TaskRequest) *api.Task {
	answer := must(s.CreateTaskWithResponse(ctx, nil, request))
	check(answer.JSON201 != nil, "%s", answer.Body)
	return answer.JSON201
}

func (s story) register(ctx context.Context) {
	var request api.ExecutorRequest
	err := request.FromWorkerExecutorRequest(api.WorkerExecutorRequest{
		Kind:         api.WorkerExecutorRequestKindWorker,
		TaskPaths:    []api.TaskPathPattern{"clients." + s.label + ".*"},
		LeaseSeconds: to(int64(60)),
	})
	check(err == nil, "%v", err)
	registered := must(s.PutExecutorWithResponse(ctx, s.label, request)).JSON201
	check(registered != nil && registered.Kind == api.ExecutorKindWorker, "%v", registered)
	read := must(s.GetExecutorWithResponse(ctx, s.label)).JSON200
	check(reflect.DeepEqual(registered, read), "%v is not %v", registered, read)
	check(read.Hold == nil, "%v", read.Hold)
}

func (s story) enqueueAndWait(ctx context.Context) {
	task := s.create(ctx, s.request("clients.count", "a galaxy", "far away"))
	check(task.Status == api.TaskStatusREADY, "%v", task.Status)
	wait := &api.GetTaskResultParams{Wait: to(int64(30))}
	result := must(s.GetTaskResultWithResponse(ctx, task.Id, wait)).JSON200
	check(result != nil && result.Status == api.TaskStatusSUCCESSFUL, "%v", result)
	expected := map[string]any{"words": 4.0, "language": "go"}
	check(reflect.DeepEqual(result.ReturnValue, expected), "%v", result.ReturnValue)
	record := must(s.GetTaskWithResponse(ctx, task.Id, nil)).JSON200
	check(record.Attempts == 1 && len(record.WorkerIds) == 1, "%v", record)
	check(!record.StartedAt.Before(record.EnqueuedAt), "%v", record.StartedAt)
}

func (s story) fail(ctx context.Context) {
	wait := &api.CreateTaskParams{Prefer: to("wait=30")}
	answer := must(s.CreateTaskWithResponse(ctx, wait, s.request("clients.unknown")))
	task := answer.JSON201
	check(task != nil && task.Status == api.TaskStatusFAILED, "%s", answer.Body)
	location := answer.HTTPResponse.Header.Get("Location")
	check(location == "/tasks/"+task.Id.String(), "%s", location)
	check(len(task.Errors) == 1 && task.Errors[0].Kind == api.TaskErrorKindException, "%v", task.Errors)
	message := task.Errors[0].Message
	check(strings.Contains(message, "exit status 1"), "%s", message)
	logs := must(s.GetTaskLogsWithResponse(ctx, task.Id, nil)).JSON200
	check(logs != nil && logs.Dropped == 0, "%v", logs)
}

func (s story) cancel(ctx context.Context) uuid.UUID {
	request := s.request("clients.count")
	request.RunAfter = to(time.Now().UTC().Add(24 * time.Hour).Truncate(time.Microsecond))
	task := s.create(ctx, request)
	check(task.RunAfter.Equal(*request.RunAfter), "%v", task.RunAfter)
	answer := must(s.CancelTaskWithResponse(ctx, task.Id, nil))
	check(answer.JSON200 != nil, "%s", answer.Body)
	check(answer.JSON200.Status == api.TaskStatusCANCELLED, "%v", answer.JSON200.Status)
	return task.Id
}

func (s story) refuse(ctx context.Context, ended uuid.UUID) {
	again := must(s.CancelTaskWithResponse(ctx, ended, nil))
	check(again.JSON200.Status == api.TaskStatusCANCELLED, "%s", again.Body)
	unknown := must(s.GetTaskWithResponse(ctx, uuid.New(), nil)).ApplicationproblemJSON404
	check(unknown != nil && unknown.Code == "task_not_found", "%v", unknown)
	request := s.request("clients.count")
	request.Priority = to(int64(101))
	refused := must(s.CreateTaskWithResponse(ctx, nil, request)).ApplicationproblemJSON422
	check(refused != nil && refused.Code == "invalid_field", "%v", refused)
	check(*refused.Pointer == "/priority", "%v", refused)
}

func (s story) keepOut(ctx context.Context, id uuid.UUID) {
	stranger := must(api.NewClientWithResponses(os.Getenv("NIGHTSHIFT_SERVER"), showing("wrong")))
	keptOut := must(stranger.GetTaskWithResponse(ctx, id, nil)).ApplicationproblemJSON401
	check(keptOut != nil && keptOut.Code == "unauthorized", "%v", keptOut)
}

func (s story) repeat(ctx context.Context) {
	key := &api.CreateTaskParams{IdempotencyKey: &s.label}
	request := s.request("clients.count", "once")
	first := must(s.CreateTaskWithResponse(ctx, key, request)).JSON201
	second := must(s.CreateTaskWithResponse(ctx, key, request)).JSON200
	check(first != nil && second != nil && first.Id == second.Id, "%v %v", first, second)
	request = s.request("clients.count", "twice")
	other := must(s.CreateTaskWithResponse(ctx, key, request)).ApplicationproblemJSON422
	check(other != nil && other.Code == "idempotency_mismatch", "%v", other)
}

func (s story) work(ctx context.Context) {
	var paths, found []string
	for _, name := range []string{"silent", "broken", "endless"} {
		paths = append(paths, s.create(ctx, s.request("clients."+s.label+"."+name)).TaskPath)
	}
	wanted := api.LeaseRequest{WorkerId: s.label, MaxTasks: to(int64(3)), WaitSeconds: to(int64(30))}
	answer := must(s.LeaseTasksWithResponse(ctx, s.label, wanted))
	check(answer.JSON200 != nil, "%s", answer.Body)
	leased := answer.JSON200.Leases
	for _, lease := range leased {
		found = append(found, lease.Task.TaskPath)
	}
	check(slices.Equal(found, paths), "%v", found)

	// Nil is left out of the request, which the service takes for null.
	succeeded := s.finish(ctx, leased[0], api.FinishRequest{ReturnValue: nil})
	check(succeeded.Status == api.TaskStatusSUCCESSFUL, "%v", succeeded)
	check(succeeded.ReturnValue == nil, "%v", succeeded)

	end := api.FinishRequest{Error: &api.ErrorReport{Message: to("no such galaxy")}}
	failed := s.finish(ctx, leased[1], end)
	check(failed.Status == api.TaskStatusFAILED && failed.Attempts == 1, "%v", failed)
	check(len(failed.Errors) == 1 && failed.Errors[0].Message == "no such galaxy", "%v", failed)

	endless := leased[2]
	asked := must(s.CancelTaskWithResponse(ctx, endless.Task.Id, nil))
	check(asked.JSON202 != nil, "%s", asked.Body)
	renewal := must(s.RenewLeaseWithResponse(ctx, endless.Token, api.RenewRequest{}))
	check(renewal.JSON200 != nil && renewal.JSON200.CancelRequested, "%s", renewal.Body)
	stopped := api.FinishRequest{Cancelled: to(api.FinishRequestCancelled(true))}
	cancelled := s.finish(ctx, endless, stopped)
	check(cancelled.Status == api.TaskStatusCANCELLED, "%v", cancelled)
}

func (s story) finish(ctx context.Context, lease api.Lease, end api.FinishRequest) *api.Task {
	answer := must(s.FinishLeaseWithResponse(ctx, lease.Token, end))
	check(answer.JSON200 != nil, "%s", answer.Body)
	record := must(s.GetTaskWithResponse(ctx, lease.Task.Id, nil)).JSON200
	check(reflect.DeepEqual(answer.JSON200, record), "%v is not %v", answer.JSON200, record)
	return record
}

func (s story) readPages(ctx context.Context) {
	var newestFirst, seen []uuid.UUID
	for range 5 {
		task := s.create(ctx, s.request("clients.count"))
		newestFirst = slices.Insert(newestFirst, 0, task.Id)
	}
	query := &api.ListTasksParams{Label: to("story=" + s.label), Limit: to(int32(3))}
	pages := 0
	for done := false; !done; pages++ {
		page := must(s.ListTasksWithResponse(ctx, query)).JSON200
		for _, task := range page.Items {
			seen = append(seen, task.Id)
		}
		query.Cursor = page.NextCursor
		done = page.NextCursor == nil
	}
	// The first, failed, cancelled and repeated one and three leased ones came before these.
	check(pages == 4 && len(seen) == 12, "%d pages, %v", pages, seen)
	check(slices.Equal(seen[:5], newestFirst), "%v", seen)
}

func main() {
	ctx, stop := context.WithTimeout(context.Background(), 2*time.Minute)
	defer stop()
	server := os.Getenv("NIGHTSHIFT_SERVER")
	token := os.Getenv("NIGHTSHIFT_TOKEN")
	client := must(api.NewClientWithResponses(server, showing(token)))
	s := story{client, "go-" + uuid.NewString()}
	s.register(ctx)
	s.enqueueAndWait(ctx)
	s.fail(ctx)
	ended := s.cancel(ctx)
	s.refuse(ctx, ended)
	// A service without tokens lets everybody in.
	if token != "" {
		s.keepOut(ctx, ended)
	}
	s.repeat(ctx)
	s.work(ctx)
	s.readPages(ctx)
	fmt.Println("go: the story is told")
}
