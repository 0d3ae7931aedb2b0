#!/usr/bin/env python3
"""What would OpenVINO GenAI's continuous batching be as a server? As little around it as a streamed chat needs.

  openvino_server.py MODEL TOKENIZER_FOLDER THREADS SETTINGS PORT

OpenVINO's own model server is no package, so this stands in for it: one thread steps the pipeline, one for each connection tokenizes
and writes. It checks nothing and keeps no books, which favours OpenVINO.
"""

import http.server
import json
import pathlib
import queue
import sys
import threading

import jinja2
import numpy
import openvino
import openvino_genai as genai
from openvino_worker import open_pipeline
from tokenizers import Tokenizer


class Stepper:
    """The one thread that touches the pipeline."""

    def __init__(self, folder, threads, settings):
        self.pipeline = open_pipeline(folder, threads, settings)
        self.inbox, self.under_way, self.asked = queue.Queue(), {}, 0
        threading.Thread(target=self.work, daemon=True).start()

    def ask(self, tokens, length, ignore_eos):
        answers = queue.Queue()
        self.inbox.put((tokens, length, ignore_eos, answers))
        return answers

    def work(self):
        while True:
            # Rests while there is nothing to do.
            if not self.under_way:
                self.add(*self.inbox.get())
            while not self.inbox.empty():
                self.add(*self.inbox.get())
            self.pipeline.step()
            for number, (handle, answers) in list(self.under_way.items()):
                while handle.can_read():
                    for output in handle.read().values():
                        answers.put(list(output.generated_ids))
                if handle.get_status() != genai.GenerationStatus.RUNNING:
                    answers.put(None)
                    del self.under_way[number]

    def add(self, tokens, length, ignore_eos, answers):
        how = genai.GenerationConfig(max_new_tokens=length, ignore_eos=ignore_eos, do_sample=False)
        self.asked += 1
        handle = self.pipeline.add_request(self.asked, openvino.Tensor(numpy.array([tokens], numpy.int64)), how)
        self.under_way[self.asked] = (handle, answers)


class Chat(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        body = json.dumps({"object": "list", "data": [{"id": "model", "object": "model"}]}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        wish = json.loads(self.rfile.read(int(self.headers["content-length"])))
        text = TEMPLATE.render(messages=wish["messages"], add_generation_prompt=True)
        tokens = TOKENIZER.encode(text, add_special_tokens=False).ids
        answers = STEPPER.ask(tokens, wish["max_tokens"], wish.get("ignore_eos", False))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        count = 0
        while (produced := answers.get()) is not None:
            count += len(produced)
            self.event(choices=[{"index": 0, "delta": {"content": TOKENIZER.decode(produced)}, "finish_reason": None}])
        self.event(choices=[{"index": 0, "delta": {}, "finish_reason": "length" if count == wish["max_tokens"] else "stop"}])
        self.event(choices=[], usage={"prompt_tokens": len(tokens), "completion_tokens": count, "total_tokens": len(tokens) + count})
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def event(self, **fields):
        self.wfile.write(b"data: " + json.dumps({"object": "chat.completion.chunk", "model": "model"} | fields).encode() + b"\n\n")

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    model, folder, threads, settings, port = sys.argv[1:]
    folder = pathlib.Path(folder)
    TOKENIZER = Tokenizer.from_file(str(folder / "tokenizer.json"))
    TEMPLATE = jinja2.Template((folder / "chat_template.jinja").read_text())
    STEPPER = Stepper(model, int(threads), json.loads(settings))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Chat)
    server.daemon_threads = True
    server.serve_forever()
