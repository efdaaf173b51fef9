// An HTTP executor for Nightshift in Go's standard library. The tasks are in check.go.
package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

type attempt struct {
	TaskID       string `json:"task_id"`
	TaskPath     string `json:"task_path"`
	Args, Kwargs json.RawMessage
	Lease        struct{ Token, URL string }
}

var key, _ = base64.StdEncoding.DecodeString(strings.TrimPrefix(os.Getenv("NIGHTSHIFT_SECRET"), "whsec_"))
var running sync.Map // what stops an attempt, by the token of its lease

func handle(w http.ResponseWriter, r *http.Request) {
	status, value := http.StatusUnauthorized, any("wrong signature")
	if body, err := io.ReadAll(r.Body); err == nil && isSigned(r.Header, body) {
		status, value = answer(body, w.Header())
	}
	w.Header().Set("Retry-After", "5") // means something with 503 only
	w.WriteHeader(status)
	if status != http.StatusAccepted && status != http.StatusNoContent {
		json.NewEncoder(w).Encode(value)
	}
}

func answer(body []byte, header http.Header) (int, any) {
	var message struct {
		Type string
		Data attempt
	}
	if err := json.Unmarshal(body, &message); err != nil {
		return http.StatusBadRequest, failure{Message: err.Error()}
	}
	a := message.Data
	header.Set("Nightshift-Task-Id", a.TaskID) // by which the service knows the answer for this executor's
	if message.Type == "task.cancel" {
		if stop, is := running.Load(a.Lease.Token); is {
			stop.(context.CancelFunc)()
		}
		return http.StatusNoContent, nil
	}
	ctx, stop := context.WithCancel(context.Background())
	if !later[a.TaskPath] {
		defer stop()
		running.Store(a.Lease.Token, stop)
		return a.run(ctx)
	}
	if _, is := running.LoadOrStore(a.Lease.Token, stop); is {
		stop() // the message came twice, and the work goes on once
	} else {
		go a.runLater(ctx, stop)
	}
	return http.StatusAccepted, nil
}

func isSigned(header http.Header, body []byte) (is bool) { // https://www.standardwebhooks.com
	var at int64
	fmt.Sscan(header.Get("webhook-timestamp"), &at)
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%d.%s", header.Get("webhook-id"), at, body)
	right := []byte("v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	for _, one := range strings.Fields(header.Get("webhook-signature")) {
		is = is || hmac.Equal([]byte(one), right)
	}
	return is && time.Since(time.Unix(at, 0)).Abs() < 5*time.Minute
}
