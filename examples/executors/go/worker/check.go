package main

import (
	"context"
	"encoding/json"
	"time"
)

// The context of a task is done when it is to stop.
func run(ctx context.Context, l lease) object {
	switch l.Task.TaskPath {
	case "check.echo":
		return object{"return_value": []any{l.Task.Args, l.Task.Kwargs}}
	case "check.fail":
		return failure(first[string](l.Task.Args))
	case "check.slow":
		seconds := first[float64](l.Task.Args)
		select {
		case <-time.After(time.Duration(seconds * float64(time.Second))):
			return object{"return_value": seconds}
		case <-ctx.Done():
			return object{"cancelled": true}
		}
	}
	return failure("there is no task " + l.Task.TaskPath)
}

func failure(message string) object {
	return object{"error": object{"message": message}}
}

func first[T any](args json.RawMessage) T {
	var values []T
	if err := json.Unmarshal(args, &values); err != nil || len(values) == 0 {
		values = make([]T, 1)
	}
	return values[0]
}
