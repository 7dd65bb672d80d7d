# Jupyter Server reads this from /etc/jupyter, and the password itself from JUPYTER_TOKEN.
import os

c = get_config()  # noqa: F821 - Jupyter's own

c.ServerApp.ip = os.environ.get("JUPYTER_IP", "0.0.0.0")  # noqa: S104 - of the container
c.ServerApp.port = int(os.environ.get("JUPYTER_PORT", "8888"))
c.ServerApp.port_retries = 0  # a proxy knows this one port
c.ServerApp.base_url = os.environ.get("JUPYTER_BASE_URL", "/")
c.ServerApp.allow_root = True  # root of the container is nobody outside of it
c.ServerApp.allow_remote_access = True  # whoever is in front checks Host and Origin
c.ServerApp.open_browser = False
c.ServerApp.quit_button = True

# What is saved without a second thought has to outlive the container.
c.ServerApp.root_dir = "/"
c.FileContentsManager.preferred_dir = "/safe_outputs" if os.path.isdir("/safe_outputs") else "/"
c.FileContentsManager.delete_to_trash = False  # which would not outlive it
c.FileContentsManager.allow_hidden = True

# Large outputs and uploads are what this is for.
c.ZMQChannelsWebsocketConnection.iopub_data_rate_limit = 1e12
c.ZMQChannelsWebsocketConnection.iopub_msg_rate_limit = 1e9
c.ServerApp.max_body_size = 2**40
c.ServerApp.max_buffer_size = 2**30


def without_token(_handler: object, page_config: dict[str, object]) -> dict[str, object]:
    """The page itself needs no token: whoever is in front adds it to each request."""
    return page_config | {"token": ""}


c.ServerApp.tornado_settings = {"page_config_hook": without_token}

# There is no internet to ask for news, extensions or versions.
c.LabApp.news_url = None
c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"
c.LabApp.extension_manager = "readonly"
c.LanguageServerManager.autodetect = False  # it finds none, and logs forty names
