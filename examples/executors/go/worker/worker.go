// A worker for Nightshift in Go's standard library; the tasks are in check.go.
// Usage: worker EXECUTOR SERVER; start several for several tasks at once.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

type object map[string]any

type lease struct {
	Token string
	Task  struct {
		TaskPath     string `json:"task_path"`
		Args, Kwargs json.RawMessage
	}
}

// The status of the answer, or 0 without one.
func post(ctx context.Context, path string, body, said any) int {
	text, _ := json.Marshal(body)
	request, _ := http.NewRequestWithContext(ctx, "POST", os.Args[2]+path, bytes.NewReader(text))
	request.Header.Set("Content-Type", "application/json")
	if token := os.Getenv("NIGHTSHIFT_TOKEN"); token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0
	}
	defer answer.Body.Close()
	json.NewDecoder(answer.Body).Decode(said)
	return answer.StatusCode
}

func serve(l lease) {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	end := make(chan object, 1)
	go func() { end <- run(ctx, l) }()
	for {
		var said struct {
			CancelRequested bool `json:"cancel_requested"`
		}
		select {
		case body := <-end:
			post(context.Background(), "/leases/"+l.Token+"/finish", body, &said)
			return
		case <-time.After(3 * time.Second):
			if post(ctx, "/leases/"+l.Token+"/renew", object{}, &said) == http.StatusConflict {
				return // the attempt is over
			}
			if said.CancelRequested {
				stop()
			}
		}
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	for ctx.Err() == nil {
		var said struct{ Leases []lease }
		wanted := object{"worker_id": fmt.Sprint("go.", os.Getpid()), "wait_seconds": 20}
		if post(ctx, "/executors/"+os.Args[1]+"/leases", wanted, &said) == 0 {
			time.Sleep(time.Second) // the service is not there, and may come back
		}
		for _, l := range said.Leases {
			serve(l)
		}
	}
}
