// Reads JSON on standard input, and prints what each path that is given finds in it: by the library
// that KEDA reads answers with, in the version that KEDA has.
package main

import (
	"fmt"
	"io"
	"log"
	"os"

	"github.com/tidwall/gjson"
)

func main() {
	answer, err := io.ReadAll(os.Stdin)
	if err != nil {
		log.Fatal(err)
	}
	for _, path := range os.Args[1:] {
		found := gjson.GetBytes(answer, path)
		fmt.Println(found.Type, found.Raw)
	}
}
