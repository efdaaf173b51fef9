#!/usr/bin/env bash
# Makes a client of the OpenAPI document for each language of examples/clients, checks it and the
# story as strictly as the language can, and tells the stories to a real service with a token and to
# one without. Started by `make test-clients`, which sets TOOLS, NIGHTSHIFT (the binary), OUT,
# OAPI_CODEGEN (a version).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
examples=$here/../examples/clients
document=$(realpath "$here/../openapi/openapi.json")
mkdir -p "$OUT"

packages=()
command -v javac >/dev/null || packages+=(default-jdk-headless)
annotations=/usr/share/java/jakarta-annotation-api.jar
[ -e "$annotations" ] || packages+=(libjakarta-annotation-api-java)
command -v npm >/dev/null || packages+=(nodejs npm)
command -v curl >/dev/null || packages+=(curl)
"$here/apt.sh" ${packages[@]+"${packages[@]}"}
python=$("$here/python.sh" "$examples/python/requirements.txt" 11)
java=$("$here/python.sh" "$examples/java/requirements.txt")
generator=$(echo "$java"/lib/python3*/site-packages/openapi_generator_cli/openapi-generator.jar)
go=$("$here/go.sh" github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen \
    github.com/oapi-codegen/oapi-codegen/v2 "$OAPI_CODEGEN")
PATH=$go:$PATH

# Shows what a generator says only if it fails.
quietly() {
    "$@" >generated.log 2>&1 || {
        cat generated.log
        return 1
    }
}

# What follows makes $1/LANGUAGE of a document, $2, and fails if the story does not fit it.

make_python() {
    rm -rf "$1/python"
    mkdir -p "$1/python"
    cp "$examples/python/story.py" "$1/python"
    cd "$1/python"
    PATH=$python/bin:$PATH quietly openapi-python-client generate --path "$2" \
        --config "$examples/python/generate.yaml" --meta none --output-path nightshift_api
    # The types of what was generated hold; how it is written inside is not for us to judge.
    "$python/bin/mypy" --strict --follow-imports silent --cache-dir "$OUT/mypy" story.py
}

make_typescript() {
    rm -rf "$1/typescript"
    mkdir -p "$1/typescript"
    cp "$examples"/typescript/{*.ts,*.json} "$1/typescript"
    cd "$1/typescript"
    ln -s "$OUT/node/node_modules" node_modules
    ln -s "$2" openapi.json
    quietly npx openapi-typescript openapi.json --default-non-nullable=false \
        --output generated/schema.d.ts
    quietly npx openapi-ts
    npx tsc
}

make_java() {
    rm -rf "$1/java"
    mkdir -p "$1/java"
    cp "$examples/java/Story.java" "$1/java"
    cd "$1/java"
    quietly java -jar "$generator" generate -g java --library native -i "$2" -o generated \
        --global-property apis,models,supportingFiles,apiTests=false,modelTests=false \
        --additional-properties "$java_options"
    find generated/src/main/java -name '*.java' >sources
    javac -nowarn -d classes -cp "$generator:$annotations" @sources
    javac -Xlint:all,-processing,-classfile -Werror -d classes \
        -cp "classes:$generator:$annotations" Story.java
}
java_options=invokerPackage=nightshift,apiPackage=nightshift.api,modelPackage=nightshift.model
java_options+=,openApiNullable=false,useJakartaEe=true,hideGenerationTimestamp=true

make_go() {
    rm -rf "$1/go"
    mkdir -p "$1/go/api"
    cp "$examples"/go/{main.go,go.mod,go.sum} "$1/go"
    cd "$1/go"
    "$TOOLS/bin/oapi-codegen" -config "$examples/go/generate.yaml" -o api/api.go "$2"
    go vet ./...
    go build -buildvcs=false -o story .
}

# Stamped with what it was installed from, so that an old one is never mistaken for a new one.
lock=$examples/typescript/package-lock.json
if ! cmp -s "$lock" "$OUT/node/complete"; then
    rm -rf "$OUT/node"
    mkdir "$OUT/node"
    cp "$lock" "$examples/typescript/package.json" "$OUT/node"
    npm ci --prefix "$OUT/node" --no-audit --no-fund
    cp "$lock" "$OUT/node/complete"
fi
[ -z "$(gofmt -l "$examples/go")" ] || { gofmt -d "$examples/go"; exit 1; }
for language in python typescript java go; do
    echo "== $language"
    ("make_$language" "$OUT" "$document")
done

folder=$(mktemp -d)
running=()
stop() {
    status=$?
    [ "$status" = 0 ] || cat "$folder"/*.log
    # The last one first: a worker would miss its service.
    for process in ${running[@]+"${running[@]}"}; do
        if kill "$process"; then wait "$process" || true; fi
    done
    rm -rf "$folder"
    exit "$status"
}
trap stop EXIT

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# answers PORT: waits for it, and has the clients speak to it.
answers() {
    export NIGHTSHIFT_SERVER=http://127.0.0.1:$1
    curl --silent --fail --output /dev/null --retry 100 --retry-delay 1 --retry-connrefused \
        "$NIGHTSHIFT_SERVER/readyz"
}

# serve NAME VARIABLE=VALUE...: a real service and a worker beside it.
serve() {
    local name=$1
    shift
    port=$(free_port)
    env "$@" "$NIGHTSHIFT" serve --bind "127.0.0.1:$port" \
        --database-url "sqlite://$folder/$name.db" >"$folder/$name-service.log" 2>&1 &
    running=($! ${running[@]+"${running[@]}"})
    answers "$port"
    "$NIGHTSHIFT" executor put clients --task-path clients.count --task-path clients.unknown
    "$NIGHTSHIFT" worker --executor clients --concurrency 2 -- python3 "$examples/work.py" \
        >"$folder/$name-worker.log" 2>&1 &
    running=($! "${running[@]}")
}

tell_stories() {
    (cd "$OUT/python" && "$python/bin/python" -B story.py)
    node "$OUT/typescript/built/typed.js"
    node "$OUT/typescript/built/sdk.js"
    java -cp "$OUT/java/classes:$generator:$annotations" Story
    "$OUT/go/story"
}

# first PAGE NUMBER: a program of the pages on clients, for the service that runs here.
first() {
    awk -v number="$2" '/^```$/ { shown = 0 } shown; /^```[a-z]+$/ { shown = ++count == number }' \
        "$here/../docs/clients/$1.md" | sed "s|http://127.0.0.1:8700|$NIGHTSHIFT_SERVER|"
}

# They are made as their pages say, of the clients that have been generated for the stories.
first_python() {
    cd "$OUT/python"
    first python 1 >first.py
    "$python/bin/mypy" --strict --follow-imports silent --cache-dir "$OUT/mypy" first.py
    "$python/bin/python" -B first.py
}

first_typescript() {
    cd "$OUT/typescript"
    cp generated/schema.d.ts .
    first typescript 1 >first.ts
    first typescript 2 >second.ts
    for program in first second; do
        npx tsc --strict --target es2023 --module nodenext --skipLibCheck "$program.ts"
        node "$program.js"
    done
}

first_java() {
    cd "$OUT/java"
    first java 1 >First.java
    javac -nowarn -d first -cp "classes:$generator:$annotations" First.java
    java -cp "first:classes:$generator:$annotations" First
}

first_go() {
    cd "$OUT/go"
    mkdir -p first
    first go 1 | sed 's|example.org/first/|example.org/nightshift-story/|' >first/first.go
    go run -buildvcs=false ./first
}

# run_first LANGUAGE PROGRAMS
run_first() {
    ("first_$1") >"$folder/first.log"
    [ "$(grep -c SUCCESSFUL "$folder/first.log")" = "$2" ]
    echo "$1: the page's first program works"
}

echo "== with a token"
NIGHTSHIFT_TOKEN=$(python3 -c 'import secrets; print(secrets.token_hex(32))')
export NIGHTSHIFT_TOKEN
serve closed NIGHTSHIFT_ADMIN_TOKEN="$NIGHTSHIFT_TOKEN"
tell_stories
run_first python 1

echo "== without"
unset NIGHTSHIFT_TOKEN
serve open
# A service without tokens does not look at the header of one, so that a client could send nonsense.
tap=$(free_port)
python3 "$here/tap.py" "$tap" "$port" "$folder/said" 2>"$folder/tap.log" &
running=($! "${running[@]}")
answers "$tap"
tell_stories
run_first python 1
run_first typescript 2
run_first java 1
run_first go 1
grep --text --quiet 'POST /tasks ' "$folder/said"
if grep --text --ignore-case '^authorization:' "$folder/said"; then
    echo "a client sends a header for a token that it does not have" >&2
    exit 1
fi

# A field less in the document is noticed by each of them.
mkdir -p "$OUT/less"
python3 - "$document" >"$OUT/less/openapi.json" <<'END'
import json, sys
document = json.load(open(sys.argv[1]))
result = document["components"]["schemas"]["TaskResult"]
del result["properties"]["return_value"]
result["required"].remove("return_value")
for path in document["paths"].values():
    for operation in path.values():
        for answer in operation["responses"].values():
            for content in answer.get("content", {}).values():
                content.pop("example", None)
json.dump(document, sys.stdout)
END
for language in python typescript java go; do
    if ("make_$language" "$OUT/less" "$OUT/less/openapi.json") >"$folder/less.log" 2>&1; then
        echo "$language does not notice that a field is gone" >&2
        exit 1
    fi
    grep -qiE 'return_?value' "$folder/less.log" || { cat "$folder/less.log"; exit 1; }
    echo "$language notices: $(grep -iE 'return_?value' "$folder/less.log" | head -n 1)"
done
