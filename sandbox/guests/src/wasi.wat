;; A plugin that looks for what it may reach by WASI. A test chooses the task by its name after
;; "guest."; only the first letter counts. Results are numbers of up to two digits.
(module
  (import "wasi:cli/environment@0.2.0" "get-environment" (func $environment (param i32)))
  (import "wasi:cli/stderr@0.2.0" "get-stderr" (func $stderr (result i32)))
  (import "wasi:io/streams@0.2.0" "[method]output-stream.blocking-write-and-flush"
    (func $write (param i32 i32 i32 i32)))
  (import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration"
    (func $after (param i64) (result i32)))
  (import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $block (param i32)))
  (import "wasi:filesystem/preopens@0.2.0" "get-directories" (func $directories (param i32)))
  (import "wasi:filesystem/types@0.2.0" "[method]descriptor.open-at"
    (func $open (param i32 i32 i32 i32 i32 i32 i32)))
  (import "wasi:filesystem/types@0.2.0" "[method]descriptor.read-directory"
    (func $list (param i32 i32)))
  (import "wasi:filesystem/types@0.2.0"
    "[method]directory-entry-stream.read-directory-entry" (func $next (param i32 i32)))
  (import "wasi:io/streams@0.2.0" "[resource-drop]output-stream" (func $drop-stream (param i32)))
  (import "wasi:http/types@0.2.0" "[constructor]fields" (func $fields (result i32)))
  (import "wasi:http/types@0.2.0" "[method]fields.append"
    (func $append (param i32 i32 i32 i32 i32 i32)))
  (import "wasi:http/types@0.2.0" "[constructor]outgoing-request"
    (func $request (param i32) (result i32)))
  (import "wasi:http/types@0.2.0" "[method]outgoing-request.body" (func $body (param i32 i32)))
  (import "wasi:http/types@0.2.0" "[method]outgoing-request.set-method"
    (func $method (param i32 i32 i32 i32) (result i32)))
  (import "wasi:http/types@0.2.0" "[method]outgoing-request.set-scheme"
    (func $scheme (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi:http/types@0.2.0" "[method]outgoing-request.set-path-with-query"
    (func $path (param i32 i32 i32 i32) (result i32)))
  (import "wasi:http/types@0.2.0" "[method]outgoing-request.set-authority"
    (func $authority (param i32 i32 i32 i32) (result i32)))
  (import "wasi:http/types@0.2.0" "[method]outgoing-body.write"
    (func $body-stream (param i32 i32)))
  (import "wasi:http/types@0.2.0" "[static]outgoing-body.finish"
    (func $finish (param i32 i32 i32 i32)))
  (import "wasi:http/outgoing-handler@0.2.0" "handle" (func $send (param i32 i32 i32 i32)))
  (import "wasi:http/types@0.2.0" "[method]future-incoming-response.subscribe"
    (func $sent (param i32) (result i32)))
  (import "wasi:http/types@0.2.0" "[method]future-incoming-response.get"
    (func $answer (param i32 i32)))
  (import "wasi:sockets/tcp-create-socket@0.2.0" "create-tcp-socket"
    (func $socket (param i32 i32)))

  (memory (export "memory") 2)
  (global $free (mut i32) (i32.const 65536))
  (data (i32.const 16) "file")
  (data (i32.const 32) "../secret")
  (data (i32.const 48) "new")
  (data (i32.const 128) "pipe")
  (data (i32.const 144) "content-length")
  (data (i32.const 160) "5")
  (data (i32.const 176) "hello")
  (data (i32.const 192) "host")
  (data (i32.const 208) "/")
  (data (i32.const 64) "thread 'main' panicked at lib.rs:7\n")

  (func (export "cabi_realloc") (param $old i32) (param $size i32) (param $align i32) (param $new i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
    (global.set $free (i32.add (local.get $at) (local.get $new)))
    (local.get $at))

  ;; One task: path, summary, no description, no defaults.
  (data (i32.const 112) "guest.read")
  (func (export "nightshift:plugin/tasks@0.1.0#describe") (result i32)
    (i32.store (i32.const 1024) (i32.const 112))
    (i32.store (i32.const 1028) (i32.const 10))
    (i32.store (i32.const 1032) (i32.const 112))
    (i32.store (i32.const 1036) (i32.const 10))
    (i32.store (i32.const 1000) (i32.const 1024))
    (i32.store (i32.const 1004) (i32.const 1))
    (i32.const 1000))

  ;; A number of up to two digits.
  (func $returns (param $number i32) (result i32)
    (i32.store8 (i32.const 4096)
      (i32.add (i32.const 0x30) (i32.div_u (local.get $number) (i32.const 10))))
    (i32.store8 (i32.const 4097)
      (i32.add (i32.const 0x30) (i32.rem_u (local.get $number) (i32.const 10))))
    (i32.store8 (i32.const 2048) (i32.const 0))
    ;; JSON has no zero in front.
    (if (i32.lt_u (local.get $number) (i32.const 10))
      (then
        (i32.store (i32.const 2052) (i32.const 4097))
        (i32.store (i32.const 2056) (i32.const 1)))
      (else
        (i32.store (i32.const 2052) (i32.const 4096))
        (i32.store (i32.const 2056) (i32.const 2))))
    (i32.const 2048))

  ;; Opens a path in the first directory: 0, or 10 and more by the kind of error.
  (func $opens (param $path i32) (param $length i32) (param $create i32) (param $how i32) (result i32)
    (call $directories (i32.const 3000))
    (call $open
      (i32.load (i32.load (i32.const 3000)))
      (i32.const 0)
      (local.get $path) (local.get $length)
      (local.get $create) (local.get $how)
      (i32.const 3100))
    (if (result i32) (i32.load8_u (i32.const 3100))
      (then (call $returns (i32.add (i32.const 10) (i32.load8_u offset=4 (i32.const 3100)))))
      (else (call $returns (i32.const 0)))))

  ;; The number of entries of the first directory.
  (func $entries (result i32)
    (local $n i32)
    (call $directories (i32.const 3000))
    (call $list (i32.load (i32.load (i32.const 3000))) (i32.const 3100))
    (block $end
      (loop $more
        (call $next (i32.load offset=4 (i32.const 3100)) (i32.const 3200))
        (br_if $end (i32.load8_u (i32.const 3200)))
        (br_if $end (i32.eqz (i32.load8_u offset=4 (i32.const 3200))))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br $more)))
    (local.get $n))

  ;; How often the first directory can be listed at once.
  (func $lists (result i32)
    (local $n i32)
    (call $directories (i32.const 3000))
    (loop $more
      (call $list (i32.load (i32.load (i32.const 3000))) (i32.const 3100))
      (if (i32.eqz (i32.load8_u (i32.const 3100)))
        (then
          (local.set $n (i32.add (local.get $n) (i32.const 1)))
          (br $more))))
    (local.get $n))

  ;; POSTs to an authority, with headers and a body of so many bytes, or none: 0 where that was
  ;; answered, or 10 and more by the kind of error.
  (func $posts (param $to i32) (param $length i32) (param $headers i32) (param $bytes i32)
    (result i32)
    (local $request i32)
    (local $body i32)
    (local.set $request (call $request (local.get $headers)))
    (drop (call $method (local.get $request) (i32.const 2) (i32.const 0) (i32.const 0)))
    (drop
      (call $scheme
        (local.get $request) (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 0)))
    (drop (call $path (local.get $request) (i32.const 1) (i32.const 208) (i32.const 1)))
    (drop
      (call $authority
        (local.get $request) (i32.const 1) (local.get $to) (local.get $length)))
    (if (local.get $bytes)
      (then
        (call $body (local.get $request) (i32.const 3000))
        (local.set $body (i32.load offset=4 (i32.const 3000)))
        (call $body-stream (local.get $body) (i32.const 3000))))
    (call $send (local.get $request) (i32.const 0) (i32.const 0) (i32.const 3200))
    (if (i32.load8_u (i32.const 3200))
      (then (return (i32.add (i32.const 10) (i32.load8_u offset=8 (i32.const 3200))))))
    (if (local.get $bytes)
      (then
        (call $write
          (i32.load offset=4 (i32.const 3000)) (i32.const 176) (local.get $bytes)
          (i32.const 3100))
        (call $drop-stream (i32.load offset=4 (i32.const 3000)))
        (call $finish (local.get $body) (i32.const 0) (i32.const 0) (i32.const 3104))))
    (call $block (call $sent (i32.load offset=8 (i32.const 3200))))
    (call $answer (i32.load offset=8 (i32.const 3200)) (i32.const 3400))
    (if (result i32) (i32.load8_u offset=16 (i32.const 3400))
      (then (i32.add (i32.const 10) (i32.load8_u offset=24 (i32.const 3400))))
      (else (i32.const 0))))

  ;; Headers that promise a body of five bytes.
  (func $five (result i32)
    (local $headers i32)
    (local.set $headers (call $fields))
    (call $append
      (local.get $headers) (i32.const 144) (i32.const 14) (i32.const 160) (i32.const 1)
      (i32.const 3100))
    (local.get $headers))

  (func (export "nightshift:plugin/tasks@0.1.0#run") (param $in i32) (result i32)
    (local $letter i32)
    (local $n i32)
    (local $args i32)
    (local $length i32)
    ;; The one string in args, as it is in JSON.
    (local.set $args (i32.add (i32.load offset=80 (local.get $in)) (i32.const 2)))
    (local.set $length (i32.sub (i32.load offset=84 (local.get $in)) (i32.const 4)))
    (local.set $letter (i32.load8_u offset=6 (i32.load offset=72 (local.get $in))))
    ;; variables: how many there are
    (if (i32.eq (local.get $letter) (i32.const 0x76))
      (then
        (call $environment (i32.const 3000))
        (return (call $returns (i32.load offset=4 (i32.const 3000))))))
    ;; directories: how many there are
    (if (i32.eq (local.get $letter) (i32.const 0x64))
      (then
        (call $directories (i32.const 3000))
        (return (call $returns (i32.load offset=4 (i32.const 3000))))))
    ;; read, escape, write
    (if (i32.eq (local.get $letter) (i32.const 0x72))
      (then (return (call $opens (i32.const 16) (i32.const 4) (i32.const 0) (i32.const 1)))))
    (if (i32.eq (local.get $letter) (i32.const 0x65))
      (then (return (call $opens (i32.const 32) (i32.const 9) (i32.const 0) (i32.const 1)))))
    (if (i32.eq (local.get $letter) (i32.const 0x77))
      (then (return (call $opens (i32.const 48) (i32.const 3) (i32.const 1) (i32.const 2)))))
    ;; many: opens the file a thousand times, and closes none
    (if (i32.eq (local.get $letter) (i32.const 0x6d))
      (then
        (loop $again
          (drop (call $opens (i32.const 16) (i32.const 4) (i32.const 0) (i32.const 1)))
          (local.set $n (i32.add (local.get $n) (i32.const 1)))
          (br_if $again (i32.lt_u (local.get $n) (i32.const 1000))))
        (return (call $returns (i32.const 0)))))
    ;; network: a socket, 0 or 10 and more
    (if (i32.eq (local.get $letter) (i32.const 0x6e))
      (then
        (call $socket (i32.const 0) (i32.const 3000))
        (if (i32.load8_u (i32.const 3000))
          (then
            (return
              (call $returns (i32.add (i32.const 10) (i32.load8_u offset=4 (i32.const 3000)))))))
        (return (call $returns (i32.const 0)))))
    ;; fifo: opens a pipe
    (if (i32.eq (local.get $letter) (i32.const 0x66))
      (then (return (call $opens (i32.const 128) (i32.const 4) (i32.const 0) (i32.const 1)))))
    ;; list: how many tens of entries there are
    (if (i32.eq (local.get $letter) (i32.const 0x6c))
      (then (return (call $returns (i32.div_u (call $entries) (i32.const 10))))))
    ;; overlists: how many tens of lists may be open at once
    (if (i32.eq (local.get $letter) (i32.const 0x6f))
      (then (return (call $returns (i32.div_u (call $lists) (i32.const 10))))))
    ;; honest, truncated, bodiless: POSTs five bytes, as promised, two of five, or none
    (if (i32.eq (local.get $letter) (i32.const 0x68))
      (then
        (return
          (call $returns
            (call $posts (local.get $args) (local.get $length) (call $five) (i32.const 5))))))
    (if (i32.eq (local.get $letter) (i32.const 0x74))
      (then
        (return
          (call $returns
            (call $posts (local.get $args) (local.get $length) (call $five) (i32.const 2))))))
    (if (i32.eq (local.get $letter) (i32.const 0x62))
      (then
        (return
          (call $returns
            (call $posts (local.get $args) (local.get $length) (call $five) (i32.const 0))))))
    ;; xhost: says which host is meant: 10 and more by the kind of error
    (if (i32.eq (local.get $letter) (i32.const 0x78))
      (then
        (call $append
          (call $fields) (i32.const 192) (i32.const 4) (i32.const 160) (i32.const 1)
          (i32.const 3100))
        (if (i32.eqz (i32.load8_u (i32.const 3100))) (then (return (call $returns (i32.const 0)))))
        (return
          (call $returns (i32.add (i32.const 10) (i32.load8_u offset=1 (i32.const 3100)))))))
    ;; sleep for an hour
    (if (i32.eq (local.get $letter) (i32.const 0x73))
      (then (call $block (call $after (i64.const 3600000000000)))))
    ;; panic: says why, and traps
    (call $write (call $stderr) (i32.const 64) (i32.const 35) (i32.const 3000))
    (unreachable)))
