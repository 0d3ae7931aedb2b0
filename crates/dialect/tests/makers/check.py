"""Do the makers' own libraries take what this crate writes, and read what its tests read?

    python3 -m venv venv && venv/bin/pip install google-genai google-auth botocore
    mkdir dump && DIALECT_DUMP=$PWD/dump cargo test -p dialect --test google_requests --test aws_requests
    venv/bin/python crates/dialect/tests/makers/check.py dump
"""

import base64
import json
import pathlib
import sys

import botocore.session
import botocore.validate
from botocore.eventstream import EventStreamBuffer
from google.auth import crypt, jwt
from google.genai import types

CORPUS = pathlib.Path(__file__).parent.parent / "corpus"
# Each field of a Gemini request, and what reads it. All refuse fields that they do not know.
GEMINI = {
    "contents": types.Content,
    "systemInstruction": types.Content,
    "tools": types.Tool,
    "toolConfig": types.ToolConfig,
    "generationConfig": types.GenerationConfig,
}


def gemini(dump):
    bodies = [json.loads(path.read_bytes()) for path in dump.glob("*generateContent*.json")]
    bodies += [json.loads(path.read_bytes()) for path in dump.glob("*streamGenerateContent*.json")]
    for body in bodies:
        body.pop("serviceTier", None)
        for name, value in body.items():
            for item in value if isinstance(value, list) else [value]:
                GEMINI[name].model_validate(item)
    lines = (CORPUS / "google/tools.sse").read_text().splitlines()
    answers = [line.removeprefix("data: ") for line in lines if line] + [(CORPUS / "google/whole.json").read_text()]
    for answer in answers:
        types.GenerateContentResponse.model_validate(json.loads(answer))
    print(f"google-genai takes {len(bodies)} requests and {len(answers)} answers")


def token(dump):
    account = json.loads((CORPUS / "google/service_account.json").read_bytes())
    said = (dump / "assertion.jwt").read_text()
    payload = json.loads(base64.urlsafe_b64decode(said.split(".")[1] + "=="))
    theirs = jwt.encode(crypt.RSASigner.from_service_account_info(account), payload)
    assert jwt.decode_header(theirs) == jwt.decode_header(said)
    signer = crypt.RSASigner.from_service_account_info(account)
    signature = base64.urlsafe_b64decode(said.rsplit(".", 1)[1] + "==")
    assert signer.sign(said.rsplit(".", 1)[0].encode()) == signature
    print("google-auth signs the same")


def unknown(value, shape, place):
    """Returns the places that the service's model does not have."""
    if shape.type_name == "structure" and not getattr(shape, "is_document_type", False):
        found = []
        for name, item in value.items():
            known = shape.members.get(name)
            found += unknown(item, known, f"{place}.{name}") if known else [f"{place}.{name}"]
        return found
    if shape.type_name == "list":
        return [found for item in value for found in unknown(item, shape.member, f"{place}[]")]
    if shape.type_name == "string" and shape.enum and value not in shape.enum:
        return [f"{place} = {value}"]
    return []


def converse(dump):
    model = botocore.session.get_session().get_service_model("bedrock-runtime")
    request = model.operation_model("Converse").input_shape
    paths = list(dump.glob("*_model_*.json"))
    for path in paths:
        body = json.loads(path.read_bytes()) | {"modelId": "m"}
        report = botocore.validate.ParamValidator().validate(body, request)
        assert not report.has_errors(), (path, report.generate_report())
        assert not unknown(body, request, ""), (path, unknown(body, request, ""))
    answer = json.loads((CORPUS / "aws/whole.json").read_bytes())
    assert not unknown(answer, model.operation_model("Converse").output_shape, "")
    events = model.operation_model("ConverseStream").output_shape.members["stream"]
    for name in ("tools", "throttled", "error"):
        buffer = EventStreamBuffer()
        buffer.add_data((CORPUS / f"aws/{name}.eventstream").read_bytes())
        for event in buffer:
            kind = event.headers.get(":event-type")
            if kind:
                payload = json.loads(event.payload)
                # Padding that hides how long a piece is; the model does not mention it.
                payload.pop("p", None)
                assert not unknown(payload, events.members[kind], kind)
    print(f"botocore takes {len(paths)} requests and every frame")


if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1])
    gemini(folder)
    token(folder)
    converse(folder)
