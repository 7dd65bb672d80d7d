"""App definitions: what a user can launch, as folders of `app_defs/` in Open OnDemand's layout."""
