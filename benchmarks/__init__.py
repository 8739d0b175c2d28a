"""Throughput benchmarks on one shared harness, and the machine checks that need a GPU."""
