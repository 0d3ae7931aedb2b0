//! Is Gemini asked in words that it knows, and is what it has no words for refused by name?

mod asking;

use asking::{
    asked, call, chat, function, inline, long, media, refused, request, result, short, thought, with_chat,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use dialect::google::Gemini;
use dialect::google::token::{SCOPE, ServiceAccount, TokenError, read_token, token_request};
use dialect::{Target, Upstream};
use domain::{
    AnswerFormat, Ask, ChatMessage, Input, MediaKind, MediaSource, Part, Prompt, ReasoningWish, Role,
    ServiceTier, Tool, ToolChoice,
};
use ring::signature::{KeyPair, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use serde_json::{Value, json};

const MODEL: &str = "gemini-3.5-pro";
const OLD: &str = "gemini-2.5-flash";

fn body(ask: &Ask, model: &str) -> Value {
    request(&Gemini::studio(), ask, model).unwrap().2
}

#[test]
fn a_long_conversation_keeps_its_order_its_proofs_and_its_results() {
    let (path, headers, body) = request(&Gemini::studio(), &long(), MODEL).unwrap();
    assert_eq!((path.as_str(), headers.len()), ("/v1beta/models/gemini-3.5-pro:generateContent", 0));
    let expected = json!({
        "contents": [
            {"role": "user", "parts": [
                {"text": "Look at these."},
                {"inlineData": {"mimeType": "image/png", "data": "AAAA"}},
                {"inlineData": {"mimeType": "application/pdf", "data": "AAAA"}},
                {"text": "Which city is warmer?"}
            ]},
            {"role": "model", "parts": [
                {"text": "Two cities.", "thought": true, "thoughtSignature": "c2ln"},
                {"text": "I look."},
                {"functionCall": {"name": "weather", "args": {"city": "Oslo"}}, "thoughtSignature": "CiQB"},
                {"functionCall": {"id": "toolu_2", "name": "weather", "args": {"city": "Bergen"}}}
            ]},
            {"role": "user", "parts": [
                {"functionResponse": {"name": "weather", "response": {"celsius": 4}}},
                {"functionResponse": {"id": "toolu_2", "name": "weather", "response": {"error": "no such city"}}}
            ]},
            {"role": "user", "parts": [{"text": "And?"}]}
        ],
        "systemInstruction": {"parts": [{"text": "Be short."}, {"text": "Use Celsius."}]},
        "tools": [{"functionDeclarations": [{"name": "weather", "description": "Looks.", "parametersJsonSchema": {
            "type": "object", "properties": {"city": {"type": "string"}}, "additionalProperties": false}}]}],
        "generationConfig": {
            "maxOutputTokens": 500, "stopSequences": ["END"], "temperature": 0.7, "topP": 0.9, "topK": 40,
            "responseMimeType": "application/json",
            "responseJsonSchema": {"type": "object", "properties": {"city": {"type": "string"}}},
            "thinkingConfig": {"thinkingLevel": "LOW", "includeThoughts": true}
        }
    });
    assert_eq!(body, expected);
}

#[test]
fn each_home_has_its_paths_and_its_way_to_say_a_tier() {
    let vertex = Gemini::vertex("my project", "europe-west4");
    let mut ask = long();
    ask.stream = true;
    ask.service_tier = Some(ServiceTier::Flex);
    let (path, headers, body) = request(&vertex, &ask, MODEL).unwrap();
    let models = "/v1/projects/my%20project/locations/europe-west4/publishers/google/models";
    assert_eq!(path, format!("{models}/gemini-3.5-pro:streamGenerateContent?alt=sse"));
    assert_eq!(headers, [("x-vertex-ai-llm-shared-request-type", "flex".to_owned())]);
    // Vertex AI takes no ids of calls.
    assert_eq!(
        body["contents"][1]["parts"][3]["functionCall"],
        json!({"name": "weather", "args": {"city": "Bergen"}})
    );
    assert!(body.get("serviceTier").is_none());
    let (path, _, body) = request(&Gemini::studio(), &ask, "tunedModels/x").unwrap();
    assert_eq!(
        (path.as_str(), &body["serviceTier"]),
        ("/v1beta/tunedModels/x:streamGenerateContent?alt=sse", &json!("flex"))
    );
    let target = Target { model: MODEL, stream: false };
    let passed = vertex.passed(b"{\"unknown\": 1}", &target).unwrap();
    assert_eq!(
        (passed.path, passed.body),
        (format!("{models}/gemini-3.5-pro:generateContent"), b"{\"unknown\": 1}".to_vec())
    );
}

#[test]
fn a_call_without_proof_is_said_to_have_none_where_proofs_are_asked_for() {
    let calls = vec![call("a", "f", "", None), call("b", "f", "{}", None)];
    let messages = vec![
        ChatMessage::of_text(Role::User, "Go"),
        ChatMessage::new(Role::Assistant, calls),
        result("a", "plain", false),
        result("b", "[1]", false),
    ];
    let ask = asked(chat(messages));
    let parts = |model| body(&ask, model)["contents"][1]["parts"].clone();
    let first = json!({"functionCall": {"id": "a", "name": "f", "args": {}}, "thoughtSignature": "skip_thought_signature_validator"});
    let second = json!({"functionCall": {"id": "b", "name": "f", "args": {}}});
    assert_eq!(parts(MODEL), json!([first, second]));
    assert_eq!(parts(OLD), json!([{"functionCall": {"id": "a", "name": "f", "args": {}}}, second]));
    let results = &body(&ask, OLD)["contents"][2]["parts"];
    assert_eq!(results[0]["functionResponse"]["response"], json!({"output": "plain"}));
    assert_eq!(results[1]["functionResponse"]["response"], json!({"output": "[1]"}));
}

#[test]
fn how_much_to_think_is_said_in_each_generation_s_words() {
    let wish = |effort: Option<&str>, budget_tokens, summary: Option<&str>| ReasoningWish {
        effort: effort.map(str::to_owned),
        budget_tokens,
        summary: summary.map(str::to_owned),
    };
    for (model, wish, expected) in [
        (MODEL, wish(Some("high"), None, None), json!({"thinkingLevel": "HIGH", "includeThoughts": true})),
        (MODEL, wish(Some("none"), None, None), json!({"thinkingLevel": "LOW", "includeThoughts": false})),
        (
            "gemini-flash-latest",
            wish(Some("none"), None, None),
            json!({"thinkingLevel": "MINIMAL", "includeThoughts": false}),
        ),
        (
            MODEL,
            wish(None, Some(2000), Some("auto")),
            json!({"thinkingBudget": 2000, "includeThoughts": true}),
        ),
        (
            OLD,
            wish(Some("medium"), None, Some("none")),
            json!({"thinkingBudget": 8192, "includeThoughts": false}),
        ),
        (OLD, wish(Some("none"), None, None), json!({"thinkingBudget": 0, "includeThoughts": false})),
        (OLD, wish(None, Some(0), None), json!({"thinkingBudget": 0, "includeThoughts": false})),
        (OLD, wish(None, None, Some("auto")), json!({"includeThoughts": true})),
    ] {
        let ask = with_chat(|chat| chat.reasoning = Some(wish));
        assert_eq!(body(&ask, model)["generationConfig"]["thinkingConfig"], expected, "{model}");
    }
}

#[test]
fn a_choice_of_tools_is_a_mode_of_calling() {
    for (choice, strict, expected) in [
        (ToolChoice::Auto, None, Value::Null),
        (ToolChoice::Auto, Some(true), json!({"mode": "VALIDATED"})),
        (ToolChoice::None, None, json!({"mode": "NONE"})),
        (ToolChoice::Required, Some(true), json!({"mode": "ANY"})),
        (ToolChoice::Named("f".into()), None, json!({"mode": "ANY", "allowedFunctionNames": ["f"]})),
    ] {
        let ask = with_chat(|chat| (chat.tools, chat.tool_choice) = (vec![function("f", strict)], choice));
        assert_eq!(body(&ask, MODEL)["toolConfig"]["functionCallingConfig"], expected);
    }
    let search = Tool::Native { dialect: "google.generate", tool: json!({"googleSearch": {}}) };
    let ask = with_chat(|chat| chat.tools = vec![search, function("f", None)]);
    let tools = &body(&ask, MODEL)["tools"];
    assert_eq!(
        (&tools[0]["functionDeclarations"][0]["name"], &tools[1]),
        (&json!("f"), &json!({"googleSearch": {}}))
    );
}

#[test]
fn what_it_draws_by_is_said_and_what_is_neutral_is_not() {
    let mut ask = short();
    ask.sampling.min_p = Some(0.0);
    ask.sampling.repetition_penalty = Some(1.0);
    ask.sampling.top_k = Some(0);
    ask.sampling.logit_bias = Some(Vec::new());
    assert_eq!(body(&ask, MODEL), json!({"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}));
    ask.sampling.seed = Some(7);
    ask.sampling.presence_penalty = Some(0.1);
    ask.sampling.frequency_penalty = Some(-0.1);
    (ask.choices, ask.logprobs) = (2, Some(3));
    let expected = json!({"candidateCount": 2, "responseLogprobs": true, "logprobs": 3,
        "presencePenalty": 0.1, "frequencyPenalty": -0.1, "seed": 7});
    assert_eq!(body(&ask, MODEL)["generationConfig"], expected);
    ask.sampling.seed = Some(u64::MAX);
    let seed = body(&ask, MODEL)["generationConfig"]["seed"].as_u64().unwrap();
    assert!(i32::try_from(seed).is_ok());
}

#[test]
fn media_come_along_or_are_refused_by_name() {
    let ask = |source| {
        let part = media(MediaKind::Document, source, None);
        asked(chat(vec![ChatMessage::new(Role::User, vec![part])]))
    };
    let part = |source| body(&ask(source), MODEL)["contents"][0]["parts"][0].clone();
    let url = |url: &str| MediaSource::Url(url.into());
    assert_eq!(
        part(url("gs://b/a.pdf")),
        json!({"fileData": {"fileUri": "gs://b/a.pdf", "mimeType": "application/pdf"}})
    );
    assert_eq!(part(url("https://x.org/a?b.pdf")), json!({"fileData": {"fileUri": "https://x.org/a?b.pdf"}}));
    assert_eq!(
        part(MediaSource::File("files/abc".into())),
        json!({"fileData": {"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/abc"}}),
    );
    for source in [url("ftp://x.org/a.pdf"), MediaSource::File("file-abc".into())] {
        assert_eq!(refused(&Gemini::studio(), &ask(source), MODEL), "messages[0].content");
    }
    let mut picture = result("a", "see", false);
    picture.parts.push(media(MediaKind::Image, inline("image/png"), None));
    let messages = vec![ChatMessage::new(Role::Assistant, vec![call("a", "f", "{}", None)]), picture];
    let shown = &body(&asked(chat(messages)), MODEL)["contents"][1]["parts"][0]["functionResponse"];
    assert_eq!(shown["parts"], json!([{"inlineData": {"mimeType": "image/png", "data": "AAAA"}}]));
}

#[test]
fn what_gemini_has_no_words_for_is_refused_by_name() {
    let changed = |change: fn(&mut Ask)| {
        let mut ask = short();
        change(&mut ask);
        ask
    };
    let effort = |effort: &str| {
        let wish = ReasoningWish { effort: Some(effort.into()), ..ReasoningWish::default() };
        with_chat(|chat| chat.reasoning = Some(wish))
    };
    let foreign = Tool::Native { dialect: "anthropic.messages", tool: json!({"type": "bash_20250124"}) };
    for (ask, what) in [
        (changed(|ask| ask.input = Input::Completion(vec![Prompt::Text("Once".into())])), "prompt"),
        (changed(|ask| ask.stop = vec!["x".into(); 6]), "stop"),
        (changed(|ask| ask.choices = 9), "n"),
        (changed(|ask| ask.logprobs = Some(21)), "top_logprobs"),
        (changed(|ask| ask.ignore_eos = true), "ignore_eos"),
        (changed(|ask| ask.sampling.min_p = Some(0.1)), "min_p"),
        (changed(|ask| ask.sampling.repetition_penalty = Some(1.1)), "repetition_penalty"),
        (changed(|ask| ask.sampling.logit_bias = Some(vec![(1, 1.0)])), "logit_bias"),
        (changed(|ask| ask.service_tier = Some(ServiceTier::Batch)), "service_tier"),
        (effort("enormous"), "reasoning_effort"),
        (with_chat(|chat| chat.tools = vec![foreign]), "tools"),
        (
            with_chat(|chat| {
                (chat.tools, chat.parallel_tool_calls) = (vec![function("f", None)], Some(false))
            }),
            "parallel_tool_calls",
        ),
        (asked(chat(vec![result("nobody", "x", false)])), "messages[0].tool_call_id"),
        (
            asked(chat(vec![ChatMessage::new(Role::Assistant, vec![call("a", "f", "[1", None)])])),
            "messages[0].tool_calls (f)",
        ),
        (asked(chat(vec![ChatMessage::of_text(Role::System, "Be.")])), "messages"),
    ] {
        assert_eq!(refused(&Gemini::studio(), &ask, MODEL), what);
    }
    let json_and_tools =
        with_chat(|chat| (chat.tools, chat.format) = (vec![function("f", None)], AnswerFormat::JsonObject));
    assert_eq!(refused(&Gemini::studio(), &json_and_tools, OLD), "response_format");
    assert!(request(&Gemini::studio(), &json_and_tools, MODEL).is_ok());
}

#[test]
fn thoughts_without_gemini_s_own_proof_stay_at_home() {
    let parts = vec![
        thought("a", None),
        thought("b", Some("ErUB")),
        Part::SealedReasoning("x".into()),
        Part::text(""),
        thought("", Some("gemini:c2ln")),
    ];
    let ask = asked(chat(vec![ChatMessage::new(Role::Assistant, parts)]));
    assert_eq!(body(&ask, MODEL)["contents"][0]["parts"], json!([{"text": "", "thoughtSignature": "c2ln"}]));
}

const KEY_FILE: &[u8] = include_bytes!("corpus/google/service_account.json");

#[test]
fn a_service_account_signs_what_google_asks_for() {
    let account = ServiceAccount::read(KEY_FILE).unwrap();
    let form = token_request(&account.assertion(SCOPE, 1_795_276_479).unwrap());
    let assertion = form
        .strip_prefix("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=")
        .unwrap();
    let (said, signature) = assertion.rsplit_once('.').unwrap();
    let (head, claims) = said.split_once('.').unwrap();
    let read = |part: &str| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
    assert_eq!(read(head), json!({"alg": "RS256", "typ": "JWT", "kid": "0123456789abcdef"}));
    let expected = json!({"iss": "door@a-project.iam.gserviceaccount.com", "scope": SCOPE,
        "aud": "https://oauth2.googleapis.com/token", "iat": 1_795_276_479, "exp": 1_795_280_079});
    assert_eq!(read(claims), expected);
    let file: Value = serde_json::from_slice(KEY_FILE).unwrap();
    let pem: String =
        file["private_key"].as_str().unwrap().lines().filter(|line| !line.starts_with('-')).collect();
    let key = RsaKeyPair::from_pkcs8(&STANDARD.decode(pem).unwrap()).unwrap();
    let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public_key().as_ref());
    public.verify(said.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap()).expect("a good signature");
    if let Ok(folder) = std::env::var("DIALECT_DUMP") {
        std::fs::write(format!("{folder}/assertion.jwt"), assertion).unwrap();
    }
}

#[test]
fn nothing_shows_a_key_or_a_token() {
    let account = ServiceAccount::read(KEY_FILE).unwrap();
    let assertion = account.assertion(SCOPE, 0).unwrap();
    let (token, lifetime) =
        read_token(br#"{"access_token":"ya29.secret","expires_in":3599,"token_type":"Bearer"}"#).unwrap();
    assert_eq!((token.header().as_str(), lifetime.as_secs()), ("Bearer ya29.secret", 3599));
    let shown = format!("{account:?} {assertion:?} {token:?}");
    assert_eq!(
        shown,
        "ServiceAccount { email: \"door@a-project.iam.gserviceaccount.com\", .. } Assertion(…) Token(…)"
    );
    let broken = br#"{"type":"service_account","client_email":"a","private_key":"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----"}"#;
    assert_eq!(ServiceAccount::read(broken).err(), Some(TokenError::Key));
    for (file, word) in [
        (&b"{\"type\":\"authorized_user\"}"[..], "type"),
        (b"{\"type\":\"service_account\"}", "client_email"),
        (b"secret", "JSON"),
    ] {
        let error = ServiceAccount::read(file).unwrap_err().to_string();
        assert!(error.contains(word) && !error.contains("secret"), "{error}");
    }
    let refused = read_token(br#"{"error":"invalid_grant","error_description":"Invalid JWT Signature."}"#);
    assert_eq!(refused, Err(TokenError::Refused("invalid_grant: Invalid JWT Signature.".into())));
    assert_eq!(read_token(br#"{"access_token":""}"#), Err(TokenError::Answer));
}
