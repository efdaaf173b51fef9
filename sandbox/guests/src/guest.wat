;; A plugin that misbehaves in one way for each of its tasks. A test chooses the task by its name
;; after "guest."; only the first letter counts. How arguments and results lie in memory follows
;; from plugins/wit by the canonical ABI.
(module
  (import "nightshift:plugin/host@0.1.0" "cancelled" (func $cancelled (result i32)))
  (import "nightshift:plugin/host@0.1.0" "log" (func $log (param i32 i32 i32)))
  (import "nightshift:plugin/host@0.1.0" "progress"
    (func $progress (param i32 f64 i32 i32 i32)))
  (import "nightshift:plugin/http@0.1.0" "fetch" (func $fetch (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i64 i32)))

  (memory (export "memory") 2)
  (global $free (mut i32) (i32.const 65536))
  (global $runs (mut i32) (i32.const 0))

  ;; The described tasks: entries of 56 bytes at 1024, written by $describe.
  (data (i32.const 16) "guest.echo")
  (data (i32.const 32) "guest.trap")
  (data (i32.const 48) "Does what its name says.")
  (data (i32.const 80) "not JSON")
  (data (i32.const 96) "GuestError")
  (data (i32.const 112) "no luck today")
  (data (i32.const 128) "line 7 of guest")
  (data (i32.const 160) "a line")
  (data (i32.const 176) "GET")
  (data (i32.const 192) "half of it")
  (data (i32.const 208) "\22denied\22")
  (data (i32.const 224) "\22reached\22")
  (data (i32.const 240) "\22failed\22")
  (data (i32.const 256) "\22invalid\22")
  (data (i32.const 272) "content-length")
  (data (i32.const 288) "100")

  (func (export "cabi_realloc") (param $old i32) (param $size i32) (param $align i32) (param $new i32) (result i32)
    (local $at i32)
    (local.set $at
      (i32.and
        (i32.add (global.get $free) (i32.const 7))
        (i32.const -8)))
    (global.set $free (i32.add (local.get $at) (local.get $new)))
    (block $enough
      (br_if $enough
        (i32.le_u (global.get $free) (i32.mul (memory.size) (i32.const 65536))))
      (drop
        (memory.grow
          (i32.add (i32.const 1) (i32.shr_u (local.get $new) (i32.const 16))))))
    (local.get $at))

  (func $info (param $at i32) (param $path i32)
    (i32.store (local.get $at) (local.get $path))
    (i32.store offset=4 (local.get $at) (i32.const 10))
    (i32.store offset=8 (local.get $at) (i32.const 48))
    (i32.store offset=12 (local.get $at) (i32.const 24))
    (i32.store8 offset=32 (local.get $at) (i32.const 1))
    (i64.store offset=40 (local.get $at) (i64.const 90000))
    (i32.store8 offset=48 (local.get $at) (i32.const 1))
    (i32.store offset=52 (local.get $at) (i32.const 2)))

  (func (export "nightshift:plugin/tasks@0.1.0#describe") (result i32)
    (call $info (i32.const 1024) (i32.const 16))
    (call $info (i32.const 1080) (i32.const 32))
    (i32.store (i32.const 1000) (i32.const 1024))
    (i32.store (i32.const 1004) (i32.const 2))
    (i32.const 1000))

  (func $returns (param $text i32) (param $length i32) (result i32)
    (i32.store8 (i32.const 2048) (i32.const 0))
    (i32.store (i32.const 2052) (local.get $text))
    (i32.store (i32.const 2056) (local.get $length))
    (i32.const 2048))

  (func $raises (param $retryable i32) (result i32)
    (i32.store8 (i32.const 2048) (i32.const 1))
    (i32.store (i32.const 2052) (i32.const 96))
    (i32.store (i32.const 2056) (i32.const 10))
    (i32.store (i32.const 2060) (i32.const 112))
    (i32.store (i32.const 2064) (i32.const 13))
    (i32.store8 (i32.const 2068) (i32.const 1))
    (i32.store (i32.const 2072) (i32.const 128))
    (i32.store (i32.const 2076) (i32.const 15))
    (i32.store8 (i32.const 2080) (local.get $retryable))
    (i32.const 2048))

  (func $recurse (param $n i32) (result i32)
    (i32.add
      (call $recurse (i32.add (local.get $n) (i32.const 1)))
      (local.get $n)))

  ;; GETs the URL that is the one string in args, with so many of one header.
  (func $outside (param $url i32) (param $length i32) (param $headers i32) (result i32)
    (i32.store (i32.const 3300) (i32.const 272))
    (i32.store (i32.const 3304) (i32.const 14))
    (i32.store (i32.const 3308) (i32.const 288))
    (i32.store (i32.const 3312) (i32.const 3))
    (call $fetch
      (i32.const 176) (i32.const 3)
      (i32.add (local.get $url) (i32.const 2)) (i32.sub (local.get $length) (i32.const 4))
      (i32.const 3300) (local.get $headers)
      (i32.const 0) (i32.const 0) (i32.const 0)
      (i32.const 0) (i64.const 0)
      (i32.const 3200))
    (if (i32.eqz (i32.load8_u (i32.const 3200)))
      (then (return (call $returns (i32.const 224) (i32.const 9)))))
    (if (i32.eqz (i32.load8_u offset=8 (i32.const 3200)))
      (then (return (call $returns (i32.const 208) (i32.const 8)))))
    (if (i32.eq (i32.load8_u offset=8 (i32.const 3200)) (i32.const 1))
      (then (return (call $returns (i32.const 256) (i32.const 9)))))
    (call $returns (i32.const 240) (i32.const 8)))

  (func (export "nightshift:plugin/tasks@0.1.0#run") (param $in i32) (result i32)
    (local $letter i32)
    (local $n i32)
    (local $args i32)
    (local $length i32)
    (global.set $runs (i32.add (global.get $runs) (i32.const 1)))
    (local.set $letter (i32.load8_u offset=6 (i32.load offset=72 (local.get $in))))
    (local.set $args (i32.load offset=80 (local.get $in)))
    (local.set $length (i32.load offset=84 (local.get $in)))

    ;; echo: the arguments
    (if (i32.eq (local.get $letter) (i32.const 0x65))
      (then (return (call $returns (local.get $args) (local.get $length)))))
    ;; again: how often this instance has run, as one digit
    (if (i32.eq (local.get $letter) (i32.const 0x61))
      (then
        (i32.store8 (i32.const 4096) (i32.add (i32.const 0x30) (global.get $runs)))
        (return (call $returns (i32.const 4096) (i32.const 1)))))
    ;; trap
    (if (i32.eq (local.get $letter) (i32.const 0x74)) (then (unreachable)))
    ;; cry: says one line, and loops without end
    (if (i32.eq (local.get $letter) (i32.const 0x63))
      (then
        (call $log (i32.const 1) (i32.const 160) (i32.const 6))
        (loop $forever (br $forever))))
    ;; loop without end
    (if (i32.eq (local.get $letter) (i32.const 0x6c))
      (then (loop $forever (br $forever))))
    ;; polite: until it is told to stop
    (if (i32.eq (local.get $letter) (i32.const 0x70))
      (then
        (loop $on (br_if $on (i32.eqz (call $cancelled))))
        (return (call $returns (local.get $args) (local.get $length)))))
    ;; memory: as much as there is, and then none
    (if (i32.eq (local.get $letter) (i32.const 0x6d))
      (then
        (loop $more
          (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
        (unreachable)))
    ;; recurse without end
    (if (i32.eq (local.get $letter) (i32.const 0x72))
      (then (drop (call $recurse (i32.const 0)))))
    ;; garbage
    (if (i32.eq (local.get $letter) (i32.const 0x67))
      (then (return (call $returns (i32.const 80) (i32.const 8)))))
    ;; huge: 100 MB
    (if (i32.eq (local.get $letter) (i32.const 0x68))
      (then
        (drop (memory.grow (i32.const 1600)))
        (return (call $returns (i32.const 0) (i32.const 100000000)))))
    ;; wild: a result that lies outside of the memory
    (if (i32.eq (local.get $letter) (i32.const 0x77))
      (then (return (call $returns (i32.const 0x7fffff00) (i32.const 100)))))
    ;; flood: 5,000 lines of log and as many words of progress
    (if (i32.eq (local.get $letter) (i32.const 0x66))
      (then
        (loop $next
          (call $log (i32.const 1) (i32.const 160) (i32.const 6))
          (call $progress
            (i32.const 1) (f64.const 0.5) (i32.const 1) (i32.const 192) (i32.const 10))
          (local.set $n (i32.add (local.get $n) (i32.const 1)))
          (br_if $next (i32.lt_u (local.get $n) (i32.const 5000))))
        (return (call $returns (local.get $args) (local.get $length)))))
    ;; xerror, yerror: an error of its own, retryable or not
    (if (i32.eq (local.get $letter) (i32.const 0x78))
      (then (return (call $raises (i32.const 1)))))
    (if (i32.eq (local.get $letter) (i32.const 0x79))
      (then (return (call $raises (i32.const 0)))))
    ;; outside: a request; bodiless: one that promises a body and has none
    (if (i32.eq (local.get $letter) (i32.const 0x6f))
      (then (return (call $outside (local.get $args) (local.get $length) (i32.const 0)))))
    (if (i32.eq (local.get $letter) (i32.const 0x62))
      (then (return (call $outside (local.get $args) (local.get $length) (i32.const 1)))))
    (unreachable)))
