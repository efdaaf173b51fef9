;; A whole plugin, in the text form of WebAssembly, so that the demo needs no compiler for another
;; language. Nobody has to write plugins like this: see plugins/examples and docs/PLUGINS.md.
;;
;; Its tasks: demo.plugin.count_primes counts the prime numbers up to the one in args, and
;; demo.plugin.never_ends is an endless loop, to show what becomes of one. How arguments and
;; results lie in memory follows from plugins/wit by the canonical ABI of the component model.
(module
  (import "nightshift:plugin/host@0.1.0" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 2)
  ;; Where free memory begins.
  (global $free (mut i32) (i32.const 65536))

  (data (i32.const 16) "demo.plugin.count_primes")
  (data (i32.const 48) "demo.plugin.never_ends")
  (data (i32.const 80) "Count the prime numbers up to N")
  (data (i32.const 112) "Loop until somebody stops it")
  (data (i32.const 144) "ValueError")
  (data (i32.const 160) "args must be one whole number, like [100]")
  (data (i32.const 208) "counting")

  ;; Gives the host memory for what it passes to the plugin.
  (func (export "cabi_realloc") (param $old i32) (param $size i32) (param $align i32) (param $new i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
    (global.set $free (i32.add (local.get $at) (local.get $new)))
    (if (i32.gt_u (global.get $free) (i32.mul (memory.size) (i32.const 65536)))
      (then
        (drop
          (memory.grow
            (i32.add (i32.const 1) (i32.shr_u (local.get $new) (i32.const 16)))))))
    (local.get $at))

  ;; A task-info: path, summary, no description, a timeout in milliseconds, one attempt.
  (func $info
    (param $at i32) (param $path i32) (param $path_length i32)
    (param $summary i32) (param $summary_length i32) (param $timeout i64)
    (i32.store (local.get $at) (local.get $path))
    (i32.store offset=4 (local.get $at) (local.get $path_length))
    (i32.store offset=8 (local.get $at) (local.get $summary))
    (i32.store offset=12 (local.get $at) (local.get $summary_length))
    (i32.store8 offset=16 (local.get $at) (i32.const 0))
    (i32.store8 offset=32 (local.get $at) (i32.const 1))
    (i64.store offset=40 (local.get $at) (local.get $timeout))
    (i32.store8 offset=48 (local.get $at) (i32.const 1))
    (i32.store offset=52 (local.get $at) (i32.const 1)))

  (func (export "nightshift:plugin/tasks@0.1.0#describe") (result i32)
    (call $info
      (i32.const 1024) (i32.const 16) (i32.const 24)
      (i32.const 80) (i32.const 31) (i64.const 60000))
    (call $info
      (i32.const 1080) (i32.const 48) (i32.const 22)
      (i32.const 112) (i32.const 28) (i64.const 1000))
    (i32.store (i32.const 1000) (i32.const 1024))
    (i32.store (i32.const 1004) (i32.const 2))
    (i32.const 1000))

  (func (export "nightshift:plugin/tasks@0.1.0#run") (param $in i32) (result i32)
    ;; The letter after "demo.plugin." tells the tasks apart.
    (if (i32.eq (i32.load8_u offset=12 (i32.load offset=72 (local.get $in))) (i32.const 0x6e))
      (then (loop $for_ever (br $for_ever))))
    (call $count_primes (i32.load offset=80 (local.get $in)) (i32.load offset=84 (local.get $in))))

  (func $count_primes (param $args i32) (param $length i32) (result i32)
    (local $last i32)
    (local $number i32)
    (local $count i32)
    (local.set $last (call $number_in (local.get $args) (local.get $length)))
    (if (i32.eq (local.get $last) (i32.const -1))
      (then (return (call $refuse))))
    (call $log (i32.const 1) (i32.const 208) (i32.const 8))
    (local.set $number (i32.const 2))
    (block $done
      (loop $next
        (br_if $done (i32.gt_u (local.get $number) (local.get $last)))
        (local.set $count (i32.add (local.get $count) (call $is_prime (local.get $number))))
        (local.set $number (i32.add (local.get $number) (i32.const 1)))
        (br $next)))
    (call $answer (local.get $count)))

  ;; The number in "[123]", or -1.
  (func $number_in (param $args i32) (param $length i32) (result i32)
    (local $at i32)
    (local $end i32)
    (local $digit i32)
    (local $number i32)
    (local.set $at (i32.add (local.get $args) (i32.const 1)))
    (local.set $end (i32.sub (i32.add (local.get $args) (local.get $length)) (i32.const 1)))
    ;; Up to seven digits.
    (if
      (i32.or
        (i32.lt_u (local.get $length) (i32.const 3))
        (i32.gt_u (local.get $length) (i32.const 9)))
      (then (return (i32.const -1))))
    (loop $next
      (local.set $digit (i32.sub (i32.load8_u (local.get $at)) (i32.const 0x30)))
      (if (i32.gt_u (local.get $digit) (i32.const 9))
        (then (return (i32.const -1))))
      (local.set $number
        (i32.add (i32.mul (local.get $number) (i32.const 10)) (local.get $digit)))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $at) (local.get $end))))
    (local.get $number))

  (func $is_prime (param $number i32) (result i32)
    (local $divisor i32)
    (local.set $divisor (i32.const 2))
    (loop $next
      (if
        (i32.gt_u
          (i32.mul (local.get $divisor) (local.get $divisor))
          (local.get $number))
        (then (return (i32.const 1))))
      (if (i32.eqz (i32.rem_u (local.get $number) (local.get $divisor)))
        (then (return (i32.const 0))))
      (local.set $divisor (i32.add (local.get $divisor) (i32.const 1)))
      (br $next))
    (unreachable))

  ;; Success with a number, written from its last digit on.
  (func $answer (param $number i32) (result i32)
    (local $at i32)
    (local.set $at (i32.const 2016))
    (loop $next
      (local.set $at (i32.sub (local.get $at) (i32.const 1)))
      (i32.store8 (local.get $at)
        (i32.add (i32.const 0x30) (i32.rem_u (local.get $number) (i32.const 10))))
      (local.set $number (i32.div_u (local.get $number) (i32.const 10)))
      (br_if $next (local.get $number)))
    (i32.store8 (i32.const 2048) (i32.const 0))
    (i32.store (i32.const 2052) (local.get $at))
    (i32.store (i32.const 2056) (i32.sub (i32.const 2016) (local.get $at)))
    (i32.const 2048))

  ;; An error that no other attempt would mend.
  (func $refuse (result i32)
    (i32.store8 (i32.const 2048) (i32.const 1))
    (i32.store (i32.const 2052) (i32.const 144))
    (i32.store (i32.const 2056) (i32.const 10))
    (i32.store (i32.const 2060) (i32.const 160))
    (i32.store (i32.const 2064) (i32.const 41))
    (i32.store8 (i32.const 2068) (i32.const 0))
    (i32.store8 (i32.const 2080) (i32.const 0))
    (i32.const 2048)))
