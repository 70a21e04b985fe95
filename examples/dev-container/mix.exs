defmodule Demo.MixProject do
  use Mix.Project

  def project do
    [app: :demo, version: "0.1.0", elixir: "~> 1.17", deps: deps()]
  end

  def application do
    [mod: {Demo.Application, []}, extra_applications: [:logger]]
  end

  defp deps do
    [{:ecto_sql, "~> 3.12"}, {:postgrex, "~> 0.19"}]
  end
end
