"""App definitions: the folders of `app_defs/`, in Open OnDemand's layout, that users can launch."""
