package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// Works after the answer 202: a heartbeat each second, and the end.
func (a attempt) runLater(ctx context.Context, stop context.CancelFunc) {
	defer stop() // when the attempt is lost, nobody wants to hear of it
	end := make(chan map[string]any, 1)
	go func() {
		if status, value := a.run(ctx); status == http.StatusOK {
			end <- map[string]any{"return_value": value}
		} else if ctx.Err() != nil {
			end <- map[string]any{"cancelled": true}
		} else {
			end <- map[string]any{"error": value}
		}
	}()
	for {
		select {
		case body := <-end:
			a.report("finish", body)
			return
		case <-time.After(time.Second):
			if a.report("renew", map[string]any{}) == http.StatusConflict {
				return
			}
		}
	}
}

// The status of the answer, or 0: the next heartbeat may get through.
func (a attempt) report(what string, body map[string]any) int {
	text, _ := json.Marshal(body)
	answer, err := http.Post(a.Lease.URL+"/"+what, "application/json", bytes.NewReader(text))
	if err != nil {
		return 0
	}
	answer.Body.Close()
	return answer.StatusCode
}
