defmodule Demo.Application do
  use Application

  @impl true
  def start(_type, _args) do
    Supervisor.start_link([Demo.Repo], strategy: :one_for_one, name: Demo.Supervisor)
  end
end
