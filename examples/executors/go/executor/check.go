// Serves what `nightshift executor check` needs. Usage: NIGHTSHIFT_SECRET=... executor [PORT]
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

type failure struct {
	Message string `json:"message"`
}

var later = map[string]bool{"check.later": true}

// The answer: a status and a value. 500 is tried again, 422 is not, 503 was not begun.
func (a attempt) run(ctx context.Context) (int, any) {
	defer running.Delete(a.Lease.Token)
	switch a.TaskPath {
	case "check.echo":
		return 200, []any{a.Args, a.Kwargs}
	case "check.null":
		return 200, nil
	case "check.fail":
		return 500, failure{first[string](a.Args)}
	case "check.reject":
		return 422, failure{first[string](a.Args)}
	case "check.busy":
		return 503, nil
	case "check.slow", "check.later":
		seconds := first[float64](a.Args)
		select {
		case <-time.After(time.Duration(seconds * float64(time.Second))):
			return 200, seconds
		case <-ctx.Done():
			return 409, failure{"cancelled"}
		}
	}
	return 404, failure{"there is no task " + a.TaskPath}
}

func first[T any](args json.RawMessage) T {
	var values []T
	if err := json.Unmarshal(args, &values); err != nil || len(values) == 0 {
		values = make([]T, 1)
	}
	return values[0]
}

func main() {
	port := "0"
	if len(os.Args) > 1 {
		port = os.Args[1]
	}
	listener, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		panic(err)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	panic(http.Serve(listener, http.HandlerFunc(handle)))
}
