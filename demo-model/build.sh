#!/bin/sh
# How are the two demo models made again, from the text to the evaluation? (The project's `make demo-model` calls this.)
#   DOCUMENTS, MAIN_STEPS, SMALL_STEPS    sizes of the run (defaults: those of the committed weights)
#   PYTHON                                an interpreter that already has requirements.txt, instead of a new .venv
set -eu
cd "$(dirname "$0")"

if [ -z "${PYTHON:-}" ]; then
    [ -x .venv/bin/python ] || python3 -m venv .venv
    .venv/bin/python -m pip install --quiet --requirement requirements.txt
    PYTHON=.venv/bin/python
fi

"$PYTHON" corpus/generate.py --documents "${DOCUMENTS:-130000}"
"$PYTHON" prepare.py
"$PYTHON" train.py main --steps "${MAIN_STEPS:-1600}"
"$PYTHON" export.py main
"$PYTHON" train.py small --steps "${SMALL_STEPS:-500}" --rate 5e-3 --teacher main
"$PYTHON" export.py small
"$PYTHON" check_export.py
"$PYTHON" evaluate.py --local main --local small --agreement --write
"$PYTHON" transcript.py
"$PYTHON" plot.py
"$PYTHON" test_corpus.py
