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
  (import "wasi:sockets/tcp-create-socket@0.2.0" "create-tcp-socket"
    (func $socket (param i32 i32)))

  (memory (export "memory") 2)
  (global $free (mut i32) (i32.const 65536))
  (data (i32.const 16) "file")
  (data (i32.const 32) "../secret")
  (data (i32.const 48) "new")
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

  (func (export "nightshift:plugin/tasks@0.1.0#run") (param $in i32) (result i32)
    (local $letter i32)
    (local $n i32)
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
    ;; sleep for an hour
    (if (i32.eq (local.get $letter) (i32.const 0x73))
      (then (call $block (call $after (i64.const 3600000000000)))))
    ;; panic: says why, and traps
    (call $write (call $stderr) (i32.const 64) (i32.const 35) (i32.const 3000))
    (unreachable)))
