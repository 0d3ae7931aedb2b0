"""Does a client that is generated from the admin API's OpenAPI document work against the real server?

Needs BASELOAD_URL, BASELOAD_OWNER_KEY (an owner of the root) and the generator, `openapi-python-client`.
"""

import importlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest
import urllib.request

URL = os.environ["BASELOAD_URL"]
KEY = os.environ["BASELOAD_OWNER_KEY"]


class GeneratedClient(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        folder = pathlib.Path(cls.folder.name)
        with urllib.request.urlopen(f"{URL}/admin/v1/openapi.json") as answer:
            (folder / "openapi.json").write_bytes(answer.read())
        (folder / "config.yml").write_text("post_hooks: []\n")  # no formatter is needed
        generated = subprocess.run(
            [sys.executable, "-m", "openapi_python_client", "generate", "--path", folder / "openapi.json",
             "--config", folder / "config.yml", "--output-path", folder / "client", "--meta", "none"],
            capture_output=True, text=True,
        )
        said = generated.stdout + generated.stderr
        assert generated.returncode == 0, said
        # The generator skips what it does not understand, with a warning: then the document is not friendly to it.
        assert "WARNING" not in said.upper(), said
        sys.path.insert(0, str(folder))
        cls.api = lambda _, name: importlib.import_module(f"client.api.{name}")
        cls.models = importlib.import_module("client.models")
        client = importlib.import_module("client")
        cls.client = client.AuthenticatedClient(base_url=URL, token=KEY)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def test_every_operation_has_a_function(self):
        document = json.loads((pathlib.Path(self.folder.name) / "openapi.json").read_text())
        operations = [(verb["tags"][0], verb["operationId"]) for path in document["paths"].values() for verb in path.values()]
        self.assertGreater(len(operations), 12)
        for tag, operation in operations:
            self.assertTrue(callable(self.api(f"{tag}.{operation}").sync_detailed))

    def test_an_account_and_its_key_live_and_end(self):
        models, client = self.models, self.client
        account = f"sdk-{os.getpid()}"
        made = self.api("accounts.create_account").sync(
            client=client, body=models.CreateAccount(account=f"{account}/team", parents=True, cost_centre="K-17"))
        self.assertEqual((made.account, made.kind, made.cost_centre), (f"{account}/team", "team", "K-17"))
        shown = self.api("accounts.get_account").sync(f"{account}/team", client=client)
        self.assertEqual(shown.cost_centre, "K-17")
        self.assertIsNone(shown.closed_at)

        new = self.api("keys.create_key").sync(
            client=client,
            body=models.CreateKey(name="bot", account=f"{account}/team", scopes=models.Scopes(models=["small"])))
        self.assertTrue(new.secret.startswith("bl-"))
        self.assertEqual(new.key.role, "member")
        listed = self.api("keys.list_keys").sync(client=client, within=account)
        self.assertEqual([key.id for key in listed.data], [new.key.id])
        rotated = self.api("keys.rotate_key").sync(new.key.id, client=client, body=models.RotateKey(overlap_seconds=60))
        self.assertEqual(rotated.key.rotated_from, new.key.id)
        revoked = self.api("keys.revoke_key").sync(new.key.id, client=client)
        self.assertEqual(revoked.state, "revoked")

    def test_pages_follow_one_another(self):
        for number in range(3):
            self.api("accounts.create_account").sync(
                client=self.client, body=self.models.CreateAccount(account=f"pages-{os.getpid()}/{number}", parents=True))
        seen, cursor = [], None
        while True:
            more = {"cursor": cursor} if cursor else {}
            page = self.api("accounts.list_accounts").sync(
                client=self.client, within=f"pages-{os.getpid()}", limit=2, **more)
            seen += [account.account for account in page.data]
            cursor = page.next_cursor
            if cursor is None:
                break
        self.assertEqual(len(seen), 4)

    def test_an_error_is_an_object_too(self):
        answer = self.api("accounts.get_account").sync_detailed("no/such/account", client=self.client)
        self.assertEqual(answer.status_code, 404)
        self.assertEqual(json.loads(answer.content)["error"]["code"], "not_found")

    def test_the_ledger_is_sound(self):
        self.assertTrue(self.api("ledger.check_integrity").sync(client=self.client).is_sound)


if __name__ == "__main__":
    unittest.main()
