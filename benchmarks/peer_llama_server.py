"""Peer: llama.cpp's own server from xllamacpp, started by hand: python -m benchmarks.peer_llama_server FILE PORT N."""

import sys
import threading

import xllamacpp

from playground.system.hardware import usable_cores

FILE, PORT, PARALLEL = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

params = xllamacpp.CommonParams()
params.model.path, params.hostnames, params.port = FILE, ["127.0.0.1"], PORT
params.n_parallel, params.n_ctx = PARALLEL, 4096 * PARALLEL
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = usable_cores()
server = xllamacpp.Server(params)
threading.Event().wait()
